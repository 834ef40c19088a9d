//! Texts as vectors: `/v1/embeddings`, Ollama's `/api/embed`, Gemini's `batchEmbedContents`.

use crate::json::{Droppable, Fields, Node, Object, hint, neutral};
use crate::{Dialect, Failure, Kind, Usage};

/// What may be left out of a request.
const DROPPABLE: &[Droppable] = &[
    hint("user"),
    hint("keep_alive"),
    neutral("truncate", &["true"]),
    neutral("options", &["{}"]),
    neutral("input_type", &[]),
];

/// A request for vectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The model, as the one who asks names it.
    pub model: String,
    /// The texts.
    pub input: Vec<String>,
    /// How long each vector is to be.
    pub dimensions: Option<u64>,
    /// Whether the vectors come as base64 of little-endian 32-bit floats (only `OpenAI` has that).
    pub base64: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The model that answered.
    pub model: String,
    /// A vector for each text, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// What was used; vectors are no tokens.
    pub usage: Usage,
}

/// Reads a request.
///
/// # Errors
/// [`Kind::Invalid`]; [`Kind::Untranslatable`] for a dialect without embeddings and for input in tokens.
pub fn read_request(dialect: Dialect, body: &[u8]) -> Result<Request, Failure> {
    let mut fields = Fields::read(body, Kind::Invalid)?;
    match dialect {
        Dialect::Chat | Dialect::Responses | Dialect::OllamaChat | Dialect::OllamaGenerate => {
            let model = fields.needed_string("model")?;
            let input = fields.need("input")?;
            let input = if input.is_text() { vec![input.string()?] } else { texts(input)? };
            let dimensions = fields.count("dimensions")?;
            let base64 = match fields.string("encoding_format")?.as_deref() {
                None | Some("float") => false,
                Some("base64") => true,
                Some(other) => return Err(fields.wrong(format_args!("no encoding is called {other:?}"))),
            };
            fields.rest(DROPPABLE)?;
            Ok(Request { model, input, dimensions, base64 })
        }
        Dialect::Gemini => {
            let mut request = Request::default();
            for mut one in fields.need("requests")?.objects()? {
                request.model = one.words("model")?.trim_start_matches("models/").to_owned();
                let mut content = one.need("content")?.object()?;
                let mut text = String::new();
                for mut part in content.objects("parts")? {
                    text.push_str(&part.needed_string("text")?);
                }
                request.input.push(text);
                request.dimensions = one.count("outputDimensionality")?;
                one.rest(&[])?;
            }
            Ok(request)
        }
        Dialect::Anthropic | Dialect::Bedrock => Err(none(dialect)),
    }
}

fn texts(input: Node<'_>) -> Result<Vec<String>, Failure> {
    let tokens = |node: &Node<'_>| !node.is_text();
    let list = input.list()?;
    if list.iter().any(tokens) {
        return Err(Failure::untranslatable(
            "input",
            "tokens of one model mean nothing to another: send texts",
        ));
    }
    list.iter().map(Node::string).collect()
}

fn none(dialect: Dialect) -> Failure {
    Failure::new(Kind::Untranslatable, format!("{dialect:?} has no embeddings"))
}

/// Writes a request; where the provider has base64 and it was asked for, it is asked for it.
///
/// # Errors
/// [`Kind::Untranslatable`] for a dialect without embeddings.
pub fn write_request(dialect: Dialect, request: &Request) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let mut object = Object::new(&mut out);
    match dialect {
        Dialect::Chat | Dialect::Responses | Dialect::OllamaChat | Dialect::OllamaGenerate => {
            object.text("model", &request.model);
            let mut list = object.list("input");
            request.input.iter().for_each(|text| list.text(text));
            drop(list);
            object.maybe("dimensions", request.dimensions);
        }
        Dialect::Gemini => {
            let mut list = object.list("requests");
            for text in &request.input {
                let mut one = list.object();
                one.text("model", &format!("models/{}", request.model));
                one.object("content").list("parts").object().text("text", text);
                one.maybe("outputDimensionality", request.dimensions);
            }
        }
        Dialect::Anthropic | Dialect::Bedrock => return Err(none(dialect)),
    }
    drop(object);
    Ok(out)
}

/// Reads an answer.
///
/// # Errors
/// [`Kind::Malformed`], and what the provider says went wrong.
pub fn read_answer(dialect: Dialect, body: &[u8]) -> Result<Answer, Failure> {
    let mut fields = Fields::read(body, Kind::Malformed)?;
    if let Some(error) = fields.take("error") {
        return Err(crate::failures::within(error));
    }
    let model = fields.words("model")?;
    let mut usage = Usage::default();
    let vectors = match dialect {
        Dialect::Chat | Dialect::Responses => {
            if let Some(mut counts) = fields.object("usage")? {
                usage.input = counts.count("prompt_tokens")?.unwrap_or(0);
            }
            let mut vectors = Vec::new();
            for mut entry in fields.need("data")?.objects()? {
                vectors.push((entry.count("index")?, vector(&entry.need("embedding")?)?));
            }
            vectors.sort_by_key(|(index, _)| *index);
            vectors.into_iter().map(|(_, vector)| vector).collect()
        }
        Dialect::OllamaChat | Dialect::OllamaGenerate => {
            usage.input = fields.count("prompt_eval_count")?.unwrap_or(0);
            fields.need("embeddings")?.list()?.iter().map(vector).collect::<Result<_, _>>()?
        }
        Dialect::Gemini => {
            let mut vectors = Vec::new();
            for mut entry in fields.need("embeddings")?.objects()? {
                vectors.push(vector(&entry.need("values")?)?);
            }
            vectors
        }
        Dialect::Anthropic | Dialect::Bedrock => return Err(none(dialect)),
    };
    Ok(Answer { model, vectors, usage })
}

fn vector(node: &Node<'_>) -> Result<Vec<f32>, Failure> {
    if node.is_text() {
        return from_base64(&node.string()?).ok_or_else(|| node.wrong("must be base64 of 32-bit floats"));
    }
    serde_json::from_str(node.text).map_err(|why| node.wrong(why))
}

fn from_base64(text: &str) -> Option<Vec<f32>> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let (floats, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| floats.iter().map(|float| f32::from_le_bytes(*float)).collect())
}

/// Writes an answer to this request.
///
/// # Errors
/// [`Kind::Untranslatable`] for a dialect without embeddings; [`Kind::Malformed`] where there are not as many vectors
/// as texts.
pub fn write_answer(dialect: Dialect, request: &Request, answer: &Answer) -> Result<Vec<u8>, Failure> {
    if request.input.len() != answer.vectors.len() {
        let what = format!("{} vectors for {} texts", answer.vectors.len(), request.input.len());
        return Err(Failure::new(Kind::Malformed, what));
    }
    let mut out = Vec::new();
    let mut object = Object::new(&mut out);
    match dialect {
        Dialect::Chat | Dialect::Responses => {
            object.text("object", "list");
            let mut list = object.list("data");
            for (number, vector) in answer.vectors.iter().enumerate() {
                let mut entry = list.object();
                entry.text("object", "embedding");
                entry.plain("index", number);
                if request.base64 {
                    entry.text("embedding", &to_base64(vector));
                } else {
                    entry.raw("embedding", &numbers(vector));
                }
            }
            drop(list);
            object.text("model", &answer.model);
            let mut usage = object.object("usage");
            usage.plain("prompt_tokens", answer.usage.input);
            usage.plain("total_tokens", answer.usage.input);
        }
        Dialect::OllamaChat | Dialect::OllamaGenerate => {
            object.text("model", &answer.model);
            let mut list = object.list("embeddings");
            answer.vectors.iter().for_each(|vector| list.raw(&numbers(vector)));
            drop(list);
            object.plain("prompt_eval_count", answer.usage.input);
        }
        Dialect::Gemini => {
            let mut list = object.list("embeddings");
            answer.vectors.iter().for_each(|vector| list.object().raw("values", &numbers(vector)));
        }
        Dialect::Anthropic | Dialect::Bedrock => return Err(none(dialect)),
    }
    drop(object);
    Ok(out)
}

fn to_base64(vector: &[f32]) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector.iter().flat_map(|float| float.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Floats that are no numbers cannot come out of JSON, and would be `null` here.
fn numbers(vector: &[f32]) -> String {
    serde_json::to_string(vector).unwrap_or_default()
}
