//! Signatures that programs make as AWS has it (Signature Version 4), with what stands for the key: read, and held to their
//! grants. [`Signing`] then signs the request anew with the key, as it is sent. Pure.

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName};
use octant_manifest::Scope;
use octant_outside::percent::decoded;
use octant_outside::sigv4::{ALGORITHM, DATE, PAYLOAD, Signing, only};

/// Payloads that are not signed: the second has chunks, and a digest of its own at the end.
const UNSIGNED: [&str; 2] = ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"];

/// A part of the header: `Name=value`.
fn part<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let said = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix(ALGORITHM)?;
    let mut parts = said.split(',').filter_map(|part| part.trim().split_once('='));
    parts.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Which key a request says that it is signed with.
pub(crate) fn key_id(headers: &HeaderMap) -> Option<&str> {
    part(headers, "Credential")?.split('/').next()
}

/// Whether the digest of the body is not said, so that the body has to be read.
pub(crate) fn needs_body(headers: &HeaderMap) -> bool {
    !headers.contains_key(PAYLOAD)
}

/// Whether a URL has a signature of this key.
pub(crate) fn is_signed_by(query: &str, key_id: &str) -> bool {
    query.split('&').filter_map(|pair| pair.split_once('=')).any(|(name, value)| {
        name.eq_ignore_ascii_case("X-Amz-Credential")
            && decoded(value).split(|b| *b == b'/').next() == Some(key_id.as_bytes())
    })
}

/// Reads a signature, and holds it to its grant.
pub(crate) fn read(headers: &HeaderMap, scope: &Scope) -> Result<Signing, String> {
    let at = only(headers, &DATE).filter(|at| {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        at.len() == 16
            && digits(&at[..8])
            && at.as_bytes()[8] == b'T'
            && digits(&at[9..15])
            && at.ends_with('Z')
    });
    let at = at.ok_or("it is signed and has not one X-Amz-Date")?;
    let Scope { key_id, region, service } = scope;
    let said = part(headers, "Credential").unwrap_or_default();
    if said != format!("{key_id}/{}/{region}/{service}/aws4_request", &at[..8]) {
        return Err(format!("it is signed for {said}, not for {region} and {service}"));
    }
    let names = part(headers, "SignedHeaders").unwrap_or_default().split(';');
    let names: Vec<HeaderName> =
        names.map(str::parse).collect::<Result<_, _>>().map_err(|_| "it signs what is no header")?;
    if !names.contains(&HOST) {
        return Err("it is signed without its host".into());
    }
    if headers.contains_key(PAYLOAD) {
        let digest = |said: &str| said.len() == 64 && said.bytes().all(|byte| byte.is_ascii_hexdigit());
        match only(headers, &PAYLOAD) {
            Some(said) if digest(said) || UNSIGNED.contains(&said) => {}
            // Each chunk would have to be signed anew on its way.
            Some(said) if said.starts_with("STREAMING-") => {
                return Err(format!(
                    "its chunks are signed one by one ({said}); have the program sign none, or all at once"
                ));
            }
            _ => return Err("its X-Amz-Content-Sha256 is no digest".into()),
        }
    }
    Ok(Signing { scope: scope.clone(), at: at.to_owned(), headers: names })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    /// What a program sends, signed with something else; gives the signature that is sent on.
    fn signed(
        key: &str,
        scope: &Scope,
        at: &str,
        method: &str,
        uri: &str,
        lines: &[(&str, &str)],
        body: &[u8],
    ) -> String {
        let mut names: Vec<&str> =
            lines.iter().map(|(name, _)| *name).chain(["host", "x-amz-date"]).collect();
        names.sort_unstable();
        names.dedup();
        let said = format!(
            "{ALGORITHM} Credential={}/{}/{}/{}/aws4_request, SignedHeaders={}, Signature=0000",
            scope.key_id,
            &at[..8],
            scope.region,
            scope.service,
            names.join(";")
        );
        let mut request =
            Request::builder().method(method).uri(uri).header("authorization", said).header("x-amz-date", at);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        read(&parts.headers, scope).unwrap().sign(&mut parts, Some(body), key.as_bytes()).unwrap();
        part(&parts.headers, "Signature").unwrap().to_owned()
    }

    fn scope(key_id: &str, service: &str) -> Scope {
        Scope { key_id: key_id.into(), region: "us-east-1".into(), service: service.into() }
    }

    /// The requests that AWS documents with their signatures (Signature Version 4 test suite; IAM user guide).
    #[test]
    fn the_documented_requests_have_the_documented_signatures() {
        let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let (at, host) = ("20150830T123600Z", "https://example.amazonaws.com");
        for (method, path, signature) in [
            ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let got =
                signed(key, &scope("AKIDEXAMPLE", "service"), at, method, &format!("{host}{path}"), &[], b"");
            assert_eq!(got, signature, "{method} {path}");
        }
        let got = signed(
            key,
            &scope("AKIDEXAMPLE", "iam"),
            at,
            "GET",
            "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
            &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
            b"",
        );
        assert_eq!(got, "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
    }

    /// The same for S3 (Authenticating Requests: Using the Authorization Header).
    #[test]
    fn the_documented_requests_of_s3_have_the_documented_signatures() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let text = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        for (method, path, lines, signature) in [
            (
                "GET",
                "/test.txt",
                &[("range", "bytes=0-9"), ("x-amz-content-sha256", empty)][..],
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "PUT",
                "/test$file.text",
                &[
                    ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                    ("x-amz-content-sha256", text),
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ],
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                "GET",
                "/?lifecycle",
                &[("x-amz-content-sha256", empty)],
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "GET",
                "/?max-keys=2&prefix=J",
                &[("x-amz-content-sha256", empty)],
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let got = signed(
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                &scope("AKIAIOSFODNN7EXAMPLE", "s3"),
                "20130524T000000Z",
                method,
                &format!("https://examplebucket.s3.amazonaws.com{path}"),
                lines,
                b"",
            );
            assert_eq!(got, signature, "{method} {path}");
        }
    }

    #[test]
    fn what_is_signed_for_something_else_is_not_signed_anew() {
        let of = |credential: &str, names: &str, date: &str, payload: &str| {
            let said = format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature=0");
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, said.parse().unwrap());
            headers.insert(DATE, date.parse().unwrap());
            headers.insert(PAYLOAD, payload.parse().unwrap());
            read(&headers, &scope("AKID", "s3"))
        };
        let (good, at, unsigned) =
            ("AKID/20130524/us-east-1/s3/aws4_request", "20130524T000000Z", "UNSIGNED-PAYLOAD");
        assert!(of(good, "host;x-amz-date", at, unsigned).is_ok());
        assert!(of(good, "host", at, "STREAMING-UNSIGNED-PAYLOAD-TRAILER").is_ok());
        for (credential, names, date, payload) in [
            ("AKID/20130524/eu-west-1/s3/aws4_request", "host", at, unsigned),
            ("AKID/20130524/us-east-1/iam/aws4_request", "host", at, unsigned),
            ("AKID/20130523/us-east-1/s3/aws4_request", "host", at, unsigned),
            ("AKID/20130524/us-east-1/s3/aws4_request/x", "host", at, unsigned),
            (good, "x-amz-date", at, unsigned),
            (good, "ho st", at, unsigned),
            (good, "host", "20130524", unsigned),
            (good, "host", at, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            (good, "host", at, "x"),
        ] {
            assert!(of(credential, names, date, payload).is_err(), "{credential} {names} {date} {payload}");
        }
        assert!(is_signed_by("a=b&X-Amz-Credential=AKID%2F20130524%2Fx", "AKID"));
        assert!(!is_signed_by("X-Amz-Credential=OTHER%2F20130524", "AKID"));
    }
}
