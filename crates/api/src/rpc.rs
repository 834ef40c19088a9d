//! How a service's methods are declared.
//!
//! [`rpc!`](crate::rpc!) takes a table of methods and makes the request enum, the handler trait, the
//! dispatcher, the authority table and the JSON schema of one service. A method without `needs` or without
//! `deadline` does not compile:
//!
//! ```compile_fail
//! use octant_api::rpc::Deadline;
//!
//! /// Parameters.
//! #[derive(Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
//! pub struct GetRequest {}
//!
//! octant_api::rpc! {
//!     /// A service.
//!     service "bad" {
//!         /// A method that names no authority; with `needs [octant_api::rpc::Need::Operator],` it compiles.
//!         "get" => get, Get(GetRequest) -> u8, deadline Deadline::Ms(1);
//!     }
//! }
//! # fn main() {}
//! ```

use crate::error::{ApiError, Code};
use octant_ids::Principal;
use serde::de::value::CowStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt;
use std::future::Future;

/// The longest line of a method that does not declare another, in bytes, without the newline.
pub const LINE_MAX: usize = 1 << 20;

/// One kind of caller that a method accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A person at the machine who runs this Octant.
    Operator,
    /// The built-in service of this name.
    Service(&'static str),
    /// Any built-in service.
    AnyService,
    /// The agent whose socket the call came through.
    Agent,
    /// Whoever may connect: what is answered is meant for everybody, and what is taken proves itself.
    Anyone,
}

impl Need {
    /// Whether the principal is of this kind.
    #[must_use]
    pub fn permits(self, principal: &Principal) -> bool {
        match (self, principal) {
            (Self::Anyone, _)
            | (Self::Operator, Principal::Operator(_))
            | (Self::AnyService, Principal::Service(_))
            | (Self::Agent, Principal::Agent(_)) => true,
            (Self::Service(name), Principal::Service(caller)) => caller.as_str() == name,
            (Self::Operator | Self::Service(_) | Self::AnyService | Self::Agent, _) => false,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::AnyService => f.write_str("any service"),
            Self::Agent => f.write_str("agent"),
            Self::Anyone => f.write_str("anyone"),
        }
    }
}

/// How long a request may take when the caller does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// So many milliseconds from its arrival.
    Ms(u64),
    /// As long as the caller stays connected (waiting and following).
    Open,
}

/// What the table says of one method.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// The name on the wire: `service.method`.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Who may call it: any one of these.
    pub needs: &'static [Need],
    /// How long it may take when the caller does not say.
    pub deadline: Deadline,
    /// Whether items come as notifications before the answer.
    pub stream: bool,
    /// Whether calling it twice is the same as calling it once.
    pub idempotent: bool,
    /// The longest request line, in bytes.
    pub line_max: usize,
    /// How many descriptors may come with the request.
    pub fds_in: usize,
    /// How many descriptors may go with the answer.
    pub fds_out: usize,
}

impl Method {
    /// What [`rpc!`](crate::rpc!) starts from: nothing that has to be asked for.
    #[must_use]
    pub const fn plain(
        name: &'static str,
        about: &'static str,
        needs: &'static [Need],
        deadline: Deadline,
        stream: bool,
    ) -> Self {
        Self {
            name,
            about,
            needs,
            deadline,
            stream,
            idempotent: false,
            line_max: LINE_MAX,
            fds_in: 0,
            fds_out: 0,
        }
    }

    /// Whether this caller may call it.
    ///
    /// # Errors
    /// [`Code::Denied`], naming who may.
    pub fn authorise(&self, caller: &Principal) -> Result<(), ApiError> {
        if self.needs.iter().any(|need| need.permits(caller)) {
            return Ok(());
        }
        let allowed: Vec<String> = self.needs.iter().map(Need::to_string).collect();
        Err(ApiError::new(
            Code::Denied,
            "call a method",
            self.name,
            format!("{caller} is not one of: {}", allowed.join(", ")),
            "call it as one of these",
        ))
    }
}

/// What the table says of one service.
#[derive(Debug, Clone, Copy)]
pub struct Interface {
    /// Name of the service.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its methods, in the order of the table.
    pub methods: &'static [Method],
}

impl Interface {
    /// The method of this name.
    ///
    /// # Errors
    /// [`Code::MethodNotFound`], naming those that exist.
    pub fn method(&self, name: &str) -> Result<&'static Method, ApiError> {
        self.methods.iter().find(|method| method.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.methods.iter().map(|method| method.name).collect();
            let shown: String = name.chars().take(64).collect();
            ApiError::new(
                Code::MethodNotFound,
                "call a method",
                shown,
                format!("{} has no such method", self.name),
                format!("use one of: {}", names.join(", ")),
            )
        })
    }

    /// The longest request line of any of its methods, in bytes.
    #[must_use]
    pub fn line_max(&self) -> usize {
        self.methods.iter().map(|method| method.line_max).max().unwrap_or(LINE_MAX)
    }
}

/// A method's parameters; the type determines the method.
pub trait Request: Serialize + for<'de> Deserialize<'de> + Send + 'static {
    /// What the method answers.
    type Reply: Serialize + for<'de> Deserialize<'de> + Send + 'static;
    /// The method's row in the table.
    const METHOD: &'static Method;
}

/// A [`Request`] whose method sends items before its answer.
pub trait StreamRequest: Request {
    /// One item.
    type Item: Serialize + for<'de> Deserialize<'de> + Send + 'static;
}

/// What a transport gives a handler beside the request.
pub trait Context: Send + Sized + 'static {
    /// Where a stream's items go.
    type Sink<T: Serialize + Send + 'static>: Send + 'static;
    /// The sink of this call.
    fn sink<T: Serialize + Send + 'static>(&self) -> Self::Sink<T>;
}

/// A service that a transport can serve: made by [`rpc!`](crate::rpc!).
pub trait Dispatch<C: Context>: Send + Sync + 'static {
    /// The enum of its requests.
    type Request: Send + 'static;
    /// Its table.
    const INTERFACE: &'static Interface;

    /// Reads the parameters of a method.
    ///
    /// # Errors
    /// [`Code::InvalidParams`], saying which field.
    fn parse(method: &'static Method, params: &str) -> Result<(Self::Request, Meta), ApiError>;

    /// Does the work and appends the answer's JSON to `out`.
    fn handle(
        &self,
        request: Self::Request,
        call: C,
        out: &mut Vec<u8>,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// What rides beside a method's own parameters, in `params._meta`. Unknown members are left alone: other
/// protocols on the same framing keep theirs there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// How long the caller waits, in milliseconds from the arrival of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// Reads parameters and takes `_meta` out of them in one pass, so that a method's own type can refuse
/// unknown fields.
///
/// # Errors
/// [`Code::InvalidParams`], saying which field.
pub fn params<P: for<'de> Deserialize<'de>>(
    method: &'static Method,
    text: &str,
) -> Result<(P, Meta), ApiError> {
    let mut meta = Meta::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let filtered = WithoutMeta { inner: &mut json, meta: &mut meta };
    P::deserialize(filtered).and_then(|request| json.end().map(|()| (request, meta))).map_err(|error| {
        ApiError::new(
            Code::InvalidParams,
            "read the parameters",
            method.name,
            error,
            "compare them with the method's schema",
        )
    })
}

struct WithoutMeta<'a, D> {
    inner: D,
    meta: &'a mut Meta,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for WithoutMeta<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(MetaFilter { inner: visitor, meta: self.meta })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct MetaFilter<'a, I> {
    inner: I,
    meta: &'a mut Meta,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for MetaFilter<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of named parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(MetaFilter { inner: map, meta: self.meta })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for MetaFilter<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            // A seed can be used only once, so the key is read as text first and then handed to it.
            let Some(Key(key)) = self.inner.next_key()? else { return Ok(None) };
            if key != "_meta" {
                return seed.deserialize(CowStrDeserializer::new(key)).map(Some);
            }
            *self.meta = self.inner.next_value()?;
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// A key, borrowed from the line wherever it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a parameter")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Appends an answer to a buffer. For [`rpc!`](crate::rpc!).
///
/// # Errors
/// [`Code::Internal`] when the value has no JSON form.
pub fn reply<T: Serialize>(method: &'static Method, value: &T, out: &mut Vec<u8>) -> Result<(), ApiError> {
    serde_json::to_writer(out, value).map_err(|error| {
        ApiError::new(
            Code::Internal,
            "write the answer",
            method.name,
            error,
            "report it as a fault of Octant",
        )
    })
}

/// One method's row of a service's schema. For [`rpc!`](crate::rpc!).
#[must_use]
pub fn method_schema(method: &Method, params: Value, answer: Value, item: Option<Value>) -> Value {
    let needs: Vec<String> = method.needs.iter().map(Need::to_string).collect();
    let deadline_ms = match method.deadline {
        Deadline::Ms(ms) => Some(ms),
        Deadline::Open => None,
    };
    let mut row = json!({
        "about": method.about.trim(),
        "needs": needs,
        "deadline_ms": deadline_ms,
        "idempotent": method.idempotent,
        "line_max": method.line_max,
        "params": params,
        "answer": answer,
    });
    if let Some(item) = item {
        row["item"] = item;
    }
    if method.fds_in + method.fds_out > 0 {
        row["descriptors"] = json!({ "with_request": method.fds_in, "with_answer": method.fds_out });
    }
    row
}

/// Declares the service of the module it stands in: see the [module's description](crate::rpc).
///
/// It makes `INTERFACE` (the table), `Call` (the enum of requests), `Handler` (the trait that a service
/// implements), `Server` (the dispatcher over a handler) and `schema()`.
///
/// ```
/// use octant_api::rpc::{Deadline, Need, Request};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// /// What to add.
/// #[derive(Debug, Serialize, Deserialize, JsonSchema)]
/// pub struct AddRequest { a: u32, b: u32 }
///
/// octant_api::rpc! {
///     /// Sums.
///     service "calculator" {
///         /// Adds two numbers.
///         "add" => add, Add(AddRequest) -> u32,
///             needs [Need::Operator], deadline Deadline::Ms(100), idempotent: true;
///     }
/// }
/// # fn main() {
/// assert_eq!(AddRequest::METHOD.name, "calculator.add");
/// assert!(INTERFACE.methods[0].idempotent);
/// # }
/// ```
#[macro_export]
macro_rules! rpc {
    (
        $(#[doc = $about:literal])+
        service $service:literal {
            $(
                $(#[doc = $doc:literal])+
                $name:literal => $method:ident, $Variant:ident ($Params:ty) -> $Reply:ty
                    $(, stream $Item:ty)?,
                    needs [$($need:expr),+ $(,)?], deadline $deadline:expr $(, $flag:ident: $value:expr)*;
            )+
        }
    ) => {
        $(
            impl $crate::rpc::Request for $Params {
                type Reply = $Reply;
                #[allow(clippy::needless_update, reason = "a row may set every flag")]
                const METHOD: &'static $crate::rpc::Method = &$crate::rpc::Method {
                    $($flag: $value,)*
                    ..$crate::rpc::Method::plain(
                        concat!($service, ".", $name),
                        concat!($($doc, "\n"),+),
                        &[$($need),+],
                        $deadline,
                        // True exactly when an item type is given.
                        false $(|| !stringify!($Item).is_empty())?,
                    )
                };
            }
            $(impl $crate::rpc::StreamRequest for $Params {
                type Item = $Item;
            })?
        )+

        $(#[doc = $about])+
        pub const INTERFACE: &$crate::rpc::Interface = &$crate::rpc::Interface {
            name: $service,
            about: concat!($($about, "\n"),+),
            methods: &[$(*<$Params as $crate::rpc::Request>::METHOD),+],
        };

        /// One request to this service.
        #[derive(Debug)]
        pub enum Call {
            $($(#[doc = $doc])+ $Variant($Params),)+
        }

        /// What the service implements: one function a method. `C` is what the transport gives beside the
        /// request.
        pub trait Handler<C: $crate::rpc::Context>: Send + Sync + 'static {
            $(
                $(#[doc = $doc])+
                ///
                /// # Errors
                /// The answer to the caller; its code says what kind of failure it is.
                fn $method(
                    &self,
                    request: $Params,
                    $(items: C::Sink<$Item>,)?
                    call: C,
                ) -> impl Future<Output = Result<$Reply, $crate::error::ApiError>> + Send;
            )+
        }

        /// Makes a [`Handler`] something that a transport can serve.
        #[derive(Debug)]
        pub struct Server<S>(pub std::sync::Arc<S>);

        impl<C: $crate::rpc::Context, S: Handler<C>> $crate::rpc::Dispatch<C> for Server<S> {
            type Request = Call;
            const INTERFACE: &'static $crate::rpc::Interface = INTERFACE;

            fn parse(
                method: &'static $crate::rpc::Method,
                params: &str,
            ) -> Result<(Call, $crate::rpc::Meta), $crate::error::ApiError> {
                $(
                    if method.name == <$Params as $crate::rpc::Request>::METHOD.name {
                        return $crate::rpc::params::<$Params>(method, params)
                            .map(|(request, meta)| (Call::$Variant(request), meta));
                    }
                )+
                INTERFACE.method(method.name).and_then(|known| Err($crate::rpc::unreachable_method(known)))
            }

            async fn handle(
                &self,
                request: Call,
                call: C,
                out: &mut Vec<u8>,
            ) -> Result<(), $crate::error::ApiError> {
                match request {
                    $(Call::$Variant(request) => {
                        let answer = self.0.$method(request, $(call.sink::<$Item>(),)? call).await?;
                        $crate::rpc::reply(<$Params as $crate::rpc::Request>::METHOD, &answer, out)
                    })+
                }
            }
        }

        /// The schemas of one method by itself: of its parameters, and of its answer.
        #[must_use]
        pub fn schemas_of(method: &$crate::rpc::Method) -> Option<(serde_json::Value, serde_json::Value)> {
            $(
                if method.name == <$Params as $crate::rpc::Request>::METHOD.name {
                    let types = schemars::SchemaGenerator::default;
                    let params = types().into_root_schema_for::<$Params>().to_value();
                    return Some((params, types().into_root_schema_for::<$Reply>().to_value()));
                }
            )+
            None
        }

        /// The JSON schema (draft 2020-12) of every method, as docs/api shows it.
        #[must_use]
        pub fn schema() -> serde_json::Value {
            let mut types = schemars::SchemaGenerator::default();
            let mut methods = serde_json::Map::new();
            $(
                let params = types.subschema_for::<$Params>().to_value();
                let answer = types.subschema_for::<$Reply>().to_value();
                #[allow(unused_mut, unused_assignments, reason = "only streams have an item")]
                let mut item = None;
                $(item = Some(types.subschema_for::<$Item>().to_value());)?
                let method = <$Params as $crate::rpc::Request>::METHOD;
                let row = $crate::rpc::method_schema(method, params, answer, item);
                methods.insert(method.name.to_owned(), row);
            )+
            serde_json::json!({
                "service": INTERFACE.name,
                "about": INTERFACE.about.trim(),
                "methods": methods,
                "$defs": types.take_definitions(true),
            })
        }
    };
}

/// A method of the table that the dispatcher does not know: excluded by the macro, which makes both.
#[doc(hidden)]
#[must_use]
pub fn unreachable_method(method: &Method) -> ApiError {
    ApiError::new(
        Code::Internal,
        "call a method",
        method.name,
        "it has no dispatcher",
        "report it as a fault",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{AppendRequest, Kind, TailRequest};

    const APPEND: &Method = AppendRequest::METHOD;

    fn read(text: &str) -> Result<(AppendRequest, Meta), ApiError> {
        params(APPEND, text)
    }

    #[test]
    fn meta_is_taken_out_wherever_it_stands() {
        for text in [
            r#"{"_meta":{"deadline_ms":7},"kind":"note","payload":[]}"#,
            r#"{"kind":"note","_meta":{"other":{"a":1},"deadline_ms":7},"payload":[]}"#,
            r#"{"kind":"note","payload":[],"\u005fmeta":{"deadline_ms":7}}"#,
        ] {
            let (request, meta) = read(text).unwrap();
            assert_eq!((request.kind, request.payload.text()), (Kind::Note, "[]"));
            assert_eq!(meta.deadline_ms, Some(7));
        }
        assert_eq!(read(r#"{"kind":"note","payload":1}"#).unwrap().1, Meta::default());
        assert_eq!(params::<TailRequest>(TailRequest::METHOD, "{}").unwrap().0, TailRequest::default());
    }

    #[test]
    fn everything_else_that_is_unknown_missing_or_doubled_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"kind":"note"}"#,
            r#"{"kind":"note","payload":1,"more":1}"#,
            r#"{"kind":"note","payload":1,"payload":2}"#,
            r#"{"kind":"note","payload":1,"_meta":{"deadline_ms":"7"}}"#,
            r#"{"kind":"nothing","payload":1}"#,
            r#"{"kind":"note","payload":1} {}"#,
        ] {
            assert_eq!(read(text).unwrap_err().code, Code::InvalidParams, "{text}");
        }
    }

    #[test]
    fn authority_is_as_the_table_says() {
        let service = |name: &str| Principal::Service(name.parse().unwrap());
        let agent = Principal::Agent(octant_ids::Aid::new(1, [0; 10]));
        for (need, permitted) in [
            (Need::Operator, Principal::Operator(7)),
            (Need::AnyService, service("vault")),
            (Need::Service("vault"), service("vault")),
            (Need::Agent, agent.clone()),
        ] {
            assert!(need.permits(&permitted));
            for other in [Principal::Operator(7), service("vault"), service("x"), agent.clone()] {
                let same_kind = std::mem::discriminant(&other) == std::mem::discriminant(&permitted);
                assert_eq!(
                    need.permits(&other),
                    same_kind && (other == permitted || need == Need::AnyService)
                );
            }
            assert!(!need.permits(&Principal::Stranger(7)) && !need.permits(&Principal::Init));
        }
    }
}
