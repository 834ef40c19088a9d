//! Vectors between the dialects that have them.

use octant_llm::{Dialect, Kind, Usage, embeddings};

const HAVE: [Dialect; 4] = [Dialect::Chat, Dialect::OllamaChat, Dialect::Gemini, Dialect::Responses];

fn read(body: &str) -> Result<embeddings::Request, octant_llm::Failure> {
    embeddings::read_request(Dialect::Chat, body.as_bytes())
}

#[test]
fn a_request_is_the_same_everywhere() {
    let asked =
        read(r#"{"model":"m","input":["a","b"],"dimensions":3,"encoding_format":"float","user":"u"}"#)
            .unwrap();
    assert_eq!((asked.input.len(), asked.dimensions, asked.base64), (2, Some(3), false));
    for dialect in HAVE {
        let body = embeddings::write_request(dialect, &asked).unwrap();
        assert_eq!(embeddings::read_request(dialect, &body).unwrap(), asked, "{dialect:?}");
    }
    for dialect in [Dialect::Anthropic, Dialect::Bedrock] {
        assert_eq!(embeddings::write_request(dialect, &asked).unwrap_err().kind, Kind::Untranslatable);
    }
    assert_eq!(read(r#"{"model":"m","input":"a"}"#).unwrap().input, ["a"]);
}

#[test]
fn an_answer_is_the_same_everywhere() {
    let vectors = vec![vec![0.5, -1.25, 3.0e-8], vec![1.0, 0.0, 0.1]];
    let answer =
        embeddings::Answer { model: "m".to_owned(), vectors, usage: Usage { input: 7, ..Usage::default() } };
    for base64 in [false, true] {
        let asked =
            embeddings::Request { base64, input: vec!["a".to_owned(), "b".to_owned()], ..Default::default() };
        for dialect in HAVE {
            let body = embeddings::write_answer(dialect, &asked, &answer).unwrap();
            let read = embeddings::read_answer(dialect, &body).unwrap();
            assert_eq!(read.vectors, answer.vectors, "{dialect:?}");
            if dialect != Dialect::Gemini {
                assert_eq!(read.usage, answer.usage, "{dialect:?}");
            }
        }
        let one = embeddings::Request { input: vec!["a".to_owned()], ..asked };
        assert_eq!(embeddings::write_answer(Dialect::Chat, &one, &answer).unwrap_err().kind, Kind::Malformed);
    }
}

#[test]
fn what_no_other_model_understands_is_refused() {
    let refused = |body: &str| read(body).unwrap_err();
    assert_eq!(refused(r#"{"model":"m","input":[1,2,3]}"#).field.as_deref(), Some("input"));
    assert_eq!(refused(r#"{"model":"m","input":[[1,2],[3]]}"#).kind, Kind::Untranslatable);
    assert_eq!(refused(r#"{"model":"m","input":"a","task":"x"}"#).field.as_deref(), Some("task"));
    assert_eq!(refused(r#"{"model":"m"}"#).kind, Kind::Invalid);
}

#[test]
fn vectors_come_in_the_order_of_their_numbers() {
    let body = r#"{"object":"list","data":[{"index":1,"embedding":[2]},{"index":0,"embedding":"AACAPw=="}],"model":"m","usage":{"prompt_tokens":2,"total_tokens":2}}"#;
    assert_eq!(embeddings::read_answer(Dialect::Chat, body.as_bytes()).unwrap().vectors, [[1.0], [2.0]]);
    let failed = embeddings::read_answer(Dialect::OllamaChat, br#"{"error":"no such model"}"#).unwrap_err();
    assert_eq!(failed.message, "no such model");
}
