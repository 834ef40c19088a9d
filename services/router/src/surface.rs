//! What programs ask, by method and path. Pure.

use octant_llm::Dialect;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// An answer of a model, in this dialect.
    Answer(Dialect),
    /// Vectors of texts.
    Embed(Dialect),
    /// How many tokens a prompt has.
    Count,
    /// Which models there are.
    List(Dialect),
    /// What is known of one model.
    Show(Dialect, Option<String>),
    /// Which version this is.
    Version,
    /// Nothing: it says whether an answer passed the check of who asked.
    Judge,
    /// Whether anybody is there.
    Alive,
}

/// Why nothing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAsk {
    Path,
    /// The path is right, with this method.
    Method(&'static str),
}

/// The dialect in which a failure is said at this path.
pub(crate) fn dialect_of(path: &str) -> Dialect {
    let under = |prefix: &str| path.starts_with(prefix);
    if under("/anthropic") || under("/v1/messages") {
        Dialect::Anthropic
    } else if under("/api/generate") {
        Dialect::OllamaGenerate
    } else if under("/api") {
        Dialect::OllamaChat
    } else if under("/v1/responses") {
        Dialect::Responses
    } else {
        Dialect::Chat
    }
}

/// What a request asks for. Nothing but these paths is answered.
pub(crate) fn ask(method: &str, path: &str) -> Result<Ask, NoAsk> {
    let (wanted, ask) = match path {
        "/v1/chat/completions" => ("POST", Ask::Answer(Dialect::Chat)),
        "/v1/responses" => ("POST", Ask::Answer(Dialect::Responses)),
        "/v1/embeddings" => ("POST", Ask::Embed(Dialect::Chat)),
        "/v1/models" => ("GET", Ask::List(Dialect::Chat)),
        // An SDK whose base is set without the prefix finds it too.
        "/anthropic/v1/messages" | "/v1/messages" => ("POST", Ask::Answer(Dialect::Anthropic)),
        "/anthropic/v1/messages/count_tokens" | "/v1/messages/count_tokens" => ("POST", Ask::Count),
        "/anthropic/v1/models" => ("GET", Ask::List(Dialect::Anthropic)),
        "/api/chat" => ("POST", Ask::Answer(Dialect::OllamaChat)),
        "/api/generate" => ("POST", Ask::Answer(Dialect::OllamaGenerate)),
        "/api/embed" => ("POST", Ask::Embed(Dialect::OllamaChat)),
        "/api/tags" => ("GET", Ask::List(Dialect::OllamaChat)),
        "/api/show" => ("POST", Ask::Show(Dialect::OllamaChat, None)),
        "/api/version" => ("GET", Ask::Version),
        "/octant/v1/feedback" => ("POST", Ask::Judge),
        "/" => ("GET", Ask::Alive),
        _ => match path.strip_prefix("/v1/models/").or_else(|| path.strip_prefix("/anthropic/v1/models/")) {
            Some(model) if !model.is_empty() => {
                ("GET", Ask::Show(dialect_of(path), Some(model.replace("%2F", "/").replace("%2f", "/"))))
            }
            _ => return Err(NoAsk::Path),
        },
    };
    let same = method == wanted || (method == "HEAD" && wanted == "GET");
    if same { Ok(ask) } else { Err(NoAsk::Method(wanted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_meaning_and_no_other_has_any() {
        assert_eq!(ask("POST", "/v1/chat/completions"), Ok(Ask::Answer(Dialect::Chat)));
        assert_eq!(ask("POST", "/anthropic/v1/messages"), Ok(Ask::Answer(Dialect::Anthropic)));
        assert_eq!(ask("GET", "/v1/chat/completions"), Err(NoAsk::Method("POST")));
        assert_eq!(ask("GET", "/v1/models/a%2Fb"), Ok(Ask::Show(Dialect::Chat, Some("a/b".into()))));
        assert_eq!(ask("HEAD", "/"), Ok(Ask::Alive));
        for path in [
            "",
            "*",
            "/v1",
            "/v1/",
            "/v1/chat/completions/",
            "//v1/models",
            "/v1/models/",
            "/v1/../v1/models",
            "/metrics",
        ] {
            assert_eq!(ask("GET", path), Err(NoAsk::Path), "{path}");
        }
        assert_eq!(dialect_of("/anthropic/x"), Dialect::Anthropic);
    }
}
