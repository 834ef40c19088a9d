//! Keys of AWS: as the vault has them, and requests signed with them. Pure.

use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use octant_manifest::Scope;
use octant_outside::sigv4::{DATE, SignError, Signing, TOKEN, date};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The service that is signed for: the only one here.
const SERVICE: &str = "bedrock";
/// The longest name of a key, as AWS has it.
const ID_MAX: usize = 128;

/// Why a secret is no key of AWS. Its words are in none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAwsKey {
    #[error(
        "it has to be ACCESS-KEY-ID:SECRET, ACCESS-KEY-ID:SECRET:SESSION-TOKEN, or an object of JSON with AccessKeyId, \
         SecretAccessKey and, where there is one, SessionToken"
    )]
    Form,
    #[error("its access key id is not 1 to 128 letters, digits and _")]
    Id,
    #[error("its secret access key is empty, or has spaces or bytes that are not ASCII")]
    Secret,
    #[error("its session token has spaces or bytes that are not ASCII")]
    Token,
}

/// A key. Only its name, and the token where it has one, are ever sent.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AwsKey {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    /// A key that is good for a while only has one.
    #[serde(default)]
    session_token: Option<Zeroizing<String>>,
}

impl AwsKey {
    /// Reads a secret of the vault: `ID:SECRET[:TOKEN]`, or JSON as AWS's own tools print keys.
    pub(crate) fn read(secret: &[u8]) -> Result<Self, NoAwsKey> {
        let text = str::from_utf8(secret.trim_ascii()).map_err(|_| NoAwsKey::Form)?;
        let key = if text.starts_with('{') {
            // What the error says of the text stays here.
            serde_json::from_str::<Self>(text).map_err(|_| NoAwsKey::Form)?
        } else {
            let parts: Vec<&str> = text.split(':').collect();
            let (id, secret, token) = match parts.as_slice() {
                [id, secret] => (id, secret, None),
                [id, secret, token] => (id, secret, Some(token)),
                _ => return Err(NoAwsKey::Form),
            };
            Self {
                access_key_id: (*id).to_owned(),
                secret_access_key: Zeroizing::new((*secret).to_owned()),
                session_token: token.map(|token| Zeroizing::new((*token).to_owned())),
            }
        };
        key.checked()
    }

    fn checked(mut self) -> Result<Self, NoAwsKey> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        self.session_token = self.session_token.filter(|token| !token.is_empty());
        if !(1..=ID_MAX).contains(&self.access_key_id.len()) || !self.access_key_id.bytes().all(word) {
            return Err(NoAwsKey::Id);
        }
        if self.secret_access_key.is_empty() || !graphic(&self.secret_access_key) {
            return Err(NoAwsKey::Secret);
        }
        if self.session_token.as_ref().is_some_and(|token| !graphic(token)) {
            return Err(NoAwsKey::Token);
        }
        Ok(self)
    }

    /// What of it is sent and is nobody else's to know.
    pub(crate) fn token(&self) -> &[u8] {
        self.session_token.as_ref().map_or(b"", |token| token.as_bytes())
    }

    /// Signs a request, which is whole but for this, for a region.
    pub(crate) fn sign(
        &self,
        parts: &mut Parts,
        body: &[u8],
        region: &str,
        wall_ms: u64,
    ) -> Result<(), SignError> {
        let at = date(wall_ms);
        let date = HeaderValue::from_str(&at).map_err(|_| SignError::Header(DATE))?;
        parts.headers.insert(DATE, date);
        if !self.token().is_empty() {
            let mut token = HeaderValue::from_bytes(self.token()).map_err(|_| SignError::Header(TOKEN))?;
            token.set_sensitive(true);
            parts.headers.insert(TOKEN, token);
        }
        // AWS takes no header of its own that is not signed.
        let signed =
            |name: &&HeaderName| [HOST, CONTENT_TYPE].contains(*name) || name.as_str().starts_with("x-amz");
        let scope = Scope {
            key_id: self.access_key_id.clone(),
            region: region.to_owned(),
            service: SERVICE.to_owned(),
        };
        let headers = parts.headers.keys().filter(signed).cloned().collect();
        Signing { scope, at, headers }.sign(parts, Some(body), self.secret_access_key.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_people_and_aws_write_them() {
        let read = |text: &str| {
            AwsKey::read(text.as_bytes()).map(|key| {
                let token = String::from_utf8(key.token().to_vec()).unwrap();
                (key.access_key_id.clone(), key.secret_access_key.to_string(), token)
            })
        };
        let whole = |token: &str| Ok(("AKID_1".to_owned(), "a+b/c=".to_owned(), token.to_owned()));
        assert_eq!(read("AKID_1:a+b/c=\n"), whole(""));
        assert_eq!(read(" AKID_1:a+b/c=:IQo/J=\n"), whole("IQo/J="));
        let json = r#"{"Version":1,"AccessKeyId":"AKID_1","SecretAccessKey":"a+b\/c=","SessionToken":TOKEN,"Expiration":"2026"}"#;
        assert_eq!(read(&json.replace("TOKEN", "\"IQo/J=\"")), whole("IQo/J="));
        assert_eq!(read(&json.replace("TOKEN", "null")), whole(""));
        for (bad, why) in [
            ("", NoAwsKey::Form),
            ("sk-a-key-of-another-kind", NoAwsKey::Form),
            ("a:b:c:d", NoAwsKey::Form),
            ("{\"AccessKeyId\":\"AKID\"}", NoAwsKey::Form),
            ("{", NoAwsKey::Form),
            (":secret", NoAwsKey::Id),
            ("AK/ID:secret", NoAwsKey::Id),
            ("AKID:", NoAwsKey::Secret),
            ("AKID:se cret", NoAwsKey::Secret),
            ("AKID:secret:to\nken", NoAwsKey::Token),
        ] {
            assert_eq!(read(bad), Err(why), "{bad:?}");
            let said = why.to_string();
            assert!(bad.len() < 6 || !said.contains(bad), "{said}");
        }
        assert_eq!(AwsKey::read(b"AKID:\xff").map(|_| ()), Err(NoAwsKey::Form));
    }

    /// The signature that AWS's own library (botocore 1.44.8) makes of the same request with the same key at the same time.
    #[test]
    fn a_request_has_the_signature_that_aws_s_library_makes() {
        let key = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY:IQoJb3JpZ2luX2VjEXAMPLETOKEN/+=";
        let request = hyper::Request::post("/model/anthropic.claude-v1%3A0/converse-stream")
            .header(CONTENT_TYPE, "application/json")
            .header(HOST, "bedrock-runtime.eu-central-1.amazonaws.com")
            .header("user-agent", "is not signed");
        let mut parts = request.body(()).unwrap().into_parts().0;
        let key = AwsKey::read(key.as_bytes()).unwrap();
        key.sign(&mut parts, b"{\"messages\":[]}", "eu-central-1", 1_795_915_726_123).unwrap();
        assert_eq!(parts.headers[DATE], "20261129T012846Z");
        let said = parts.headers["authorization"].to_str().unwrap();
        assert_eq!(
            said.split_once("SignedHeaders=").unwrap().1,
            "content-type;host;x-amz-date;x-amz-security-token,\
             Signature=e793a9ed7f4ba0dafacd470b228b1077496199555dd691d3d26067966fde1979"
        );
        let sensitive = ["authorization", "x-amz-security-token"];
        assert!(sensitive.iter().all(|name| parts.headers[*name].is_sensitive()));
    }
}
