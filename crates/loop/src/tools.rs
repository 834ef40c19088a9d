//! What a model may call: files, the shell, and what the agent's socket offers.

mod asked;
pub(crate) mod files;
mod shell;

use crate::core::{Settings, Tool};
use crate::error::LoopError;
use crate::picture::Picture;
use crate::socket::{Came, Offered, Socket};
use octant_api::error::Code;
use octant_sys::clock;
use octant_wire::WireError;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The longest name that every provider takes.
const NAME_MAX: usize = 64;
/// What stands before the names of Octant's own tools of the socket.
const PREFIX: &str = "octant_";
/// The tool that also shows pictures.
const READ: &str = "file_read";
/// The longest result, in bytes.
pub(crate) const RESULT_MAX: usize = 64 << 10;
/// How long a call of a tool of the socket may take, in milliseconds.
const CALL_MS: u64 = 30 * 60 * 1000;

/// A tool of the loop's own.
type Own = fn(&Place<'_>, &Value) -> Result<String, String>;

/// Where a tool works.
pub(crate) struct Place<'a> {
    /// The workspace.
    pub(crate) root: &'a Path,
    /// When it has to end, in nanoseconds of the monotonic clock.
    pub(crate) end_ns: u64,
    /// Whether an operator has stopped it.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// Every tool of the loop's own: name, text for the model, schema, and what it does.
fn own() -> Vec<(&'static str, &'static str, Value, Own)> {
    let path = json!({ "type": "string", "minLength": 1, "maxLength": 4096,
        "description": "Below /workspace, or from / on" });
    let object = |properties: Value, required: &[&str]| json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    vec![
        (
            READ,
            "Read a text file, or look at a picture (PNG, JPEG, WebP, GIF). Lines come with their numbers; long files in parts.",
            object(
                json!({ "path": path, "from_line": { "type": ["integer", "null"], "minimum": 1 },
                    "lines": { "type": ["integer", "null"], "minimum": 1, "maximum": 2000 } }),
                &["path"],
            ),
            files::read,
        ),
        (
            "file_write",
            "Write a whole file; one that is there is replaced. Directories are made.",
            object(json!({ "path": path, "text": { "type": "string" } }), &["path", "text"]),
            files::write,
        ),
        (
            "file_edit",
            "Replace an exact piece of a file, which has to be in it once, or with all set at least once.",
            object(
                json!({ "path": path, "old": { "type": "string", "minLength": 1 }, "new": { "type": "string" },
                    "all": { "type": ["boolean", "null"] } }),
                &["path", "old", "new"],
            ),
            files::edit,
        ),
        (
            "file_list",
            "List a directory, some levels deep.",
            object(
                json!({ "path": path, "depth": { "type": ["integer", "null"], "minimum": 1, "maximum": 8 } }),
                &[],
            ),
            files::list,
        ),
        (
            "file_search",
            "Find the lines that have a text, in a file or in all files below a directory.",
            object(
                json!({ "text": { "type": "string", "minLength": 1, "maxLength": 1000 }, "path": path,
                    "ignore_case": { "type": ["boolean", "null"] } }),
                &["text"],
            ),
            files::search,
        ),
        (
            "shell_run",
            "Run a command with sh in /workspace. Its output (both streams) and exit code come back. Everything that it \
             started ends with it. No input.",
            object(
                json!({ "command": { "type": "string", "minLength": 1, "maxLength": 65536 },
                    "timeout_s": { "type": ["integer", "null"], "minimum": 1, "maximum": 3600,
                        "description": "120 unless told otherwise" } }),
                &["command"],
            ),
            shell::run,
        ),
    ]
}

enum Home {
    Own(Own),
    /// The socket's name of it.
    Socket(String),
}

/// Every tool by the name that the model calls it by.
pub(crate) struct Tools {
    root: PathBuf,
    /// Which are wanted.
    patterns: Vec<String>,
    /// What the socket offered last.
    offered: Vec<Offered>,
    /// Whether the model sees pictures; none: nobody knows.
    sees: Option<bool>,
    homes: BTreeMap<String, Home>,
    shown: Vec<Tool>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.homes.keys()).finish()
    }
}

/// Whether a name is one of these, each a name or the beginning of one (`file_*`); none is all.
fn wanted(patterns: &[String], name: &str) -> bool {
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    };
    patterns.is_empty() || patterns.iter().any(fits)
}

/// The name that the model calls a tool of the socket by.
fn name_of(name: &str) -> String {
    let named =
        if name.contains(octant_mcp::client::BETWEEN) { name.to_owned() } else { format!("{PREFIX}{name}") };
    let legal = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' };
    let plain: String = named.chars().map(legal).collect();
    if plain == named && plain.len() <= NAME_MAX {
        return plain;
    }
    // What was changed or cut is told apart by its digest.
    let digest = crate::text::digest(name).to_string();
    format!("{}_{}", crate::text::head(&plain, NAME_MAX - 9), &digest[..8])
}

impl Tools {
    /// The loop's own, and those of the socket where there is one, as far as they are wanted.
    pub(crate) fn new(
        root: &Path,
        socket: Option<&mut Socket>,
        patterns: &[String],
        sees: Option<bool>,
    ) -> Result<Self, LoopError> {
        let mut tools = Self {
            root: root.to_owned(),
            patterns: patterns.to_vec(),
            offered: socket.map(Socket::tools).transpose()?.unwrap_or_default(),
            sees,
            homes: BTreeMap::new(),
            shown: Vec::new(),
        };
        tools.gather();
        Ok(tools)
    }

    /// Looks at what the socket offers by now; whether it is something else than before. An operator may have approved a
    /// server meanwhile, and servers come and go.
    pub(crate) fn look_again(&mut self, socket: &mut Socket) -> bool {
        // Where it cannot be asked, what was offered last is.
        let Ok(offered) = socket.tools() else { return false };
        if offered == self.offered {
            return false;
        }
        self.offered = offered;
        self.gather();
        true
    }

    fn gather(&mut self) {
        (self.homes, self.shown) = (BTreeMap::new(), Vec::new());
        for (name, about, schema, own) in own() {
            self.add(name.to_owned(), Some(about.to_owned()), schema, Home::Own(own));
        }
        for Offered { name, about, schema } in self.offered.clone() {
            self.add(name_of(&name), about, schema, Home::Socket(name));
        }
    }

    fn add(&mut self, name: String, about: Option<String>, schema: Value, home: Home) {
        if !wanted(&self.patterns, &name) || self.homes.contains_key(&name) {
            return;
        }
        self.shown.push(Tool { name: name.clone(), about, schema });
        self.homes.insert(name, home);
    }

    /// What the model is shown.
    pub(crate) fn shown(&self) -> &[Tool] {
        &self.shown
    }

    /// Calls one, with arguments that fit its schema.
    pub(crate) fn call(
        &self,
        name: &str,
        arguments: &Value,
        socket: Option<&mut Socket>,
        end_ns: u64,
        stop: &dyn Fn() -> bool,
    ) -> Came {
        let failed = |text: String| Came::words(text, true);
        match (self.homes.get(name), socket) {
            (Some(Home::Own(own)), socket) => {
                // Outside of a workstation there is no manifest that could demand it.
                if let Some(refused) = socket.and_then(|socket| held_back(socket, name, arguments)) {
                    return refused;
                }
                let place = Place { root: &self.root, end_ns, stop };
                if name == READ
                    && let Some(picture) = files::picture(&place, arguments)
                {
                    return shown(picture, self.sees);
                }
                own(&place, arguments).map_or_else(failed, |text| Came::words(text, false))
            }
            (Some(Home::Socket(theirs)), Some(socket)) => {
                let most = clock::monotonic_ns().saturating_add(CALL_MS * 1_000_000);
                let mut came = socket.call(theirs, arguments, end_ns.min(most), stop);
                came.text = crate::text::middle_out(&came.text, RESULT_MAX);
                came
            }
            // Settings name only what is here.
            _ => failed(format!("there is no tool {name}")),
        }
    }
}

/// A picture for a model, where it sees pictures.
fn shown(picture: Result<Picture, String>, sees: Option<bool>) -> Came {
    let picture = match picture {
        Ok(picture) => picture,
        Err(why) => return Came::words(why, true),
    };
    let why_not = match sees {
        Some(true) => {
            return Came { picture: Some(picture.clone()), ..Came::words(format!("{picture}\n"), false) };
        }
        Some(false) => "you cannot be shown pictures",
        None => "whether you can be shown pictures is not known (`vision` in router.toml says so)",
    };
    Came::words(format!("{picture}; {why_not}. Use a program that says what is in it."), true)
}

/// Has an operator asked where the manifest demands it; what comes of a call that is not made, for want of a yes.
fn held_back(socket: &mut Socket, name: &str, arguments: &Value) -> Option<Came> {
    let refused = |text: String| Some(Came::words(text, true));
    let shown = match asked::shown(name, arguments) {
        Ok(shown) => shown,
        Err(why) => return refused(why),
    };
    match socket.permit(name, shown) {
        Ok(()) => None,
        Err(LoopError::Socket { source: WireError::Api(error), .. }) => {
            let text = format!("not called: {error}");
            let waits = error.data.approval.filter(|_| error.code == Code::ApprovalNeeded);
            Some(Came { waits, ..Came::words(text, true) })
        }
        Err(error) => refused(format!("not called: whether it needs an approval cannot be asked: {error}")),
    }
}

/// Puts the tools into the settings.
pub(crate) fn equip(settings: &mut Settings, tools: &Tools) {
    settings.tools = tools.shown().to_vec();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_every_provider_takes_and_stay_apart() {
        assert_eq!(name_of("note"), "octant_note");
        assert_eq!(name_of("weather__forecast"), "weather__forecast");
        let (dotted, scored) = (name_of("weather__a.b"), name_of("weather__a_b"));
        assert!(dotted != scored && dotted.starts_with("weather__a_b_") && !dotted.contains('.'));
        let long = |end: char| name_of(&format!("weather__{}{end}", "x".repeat(80)));
        assert!(long('1') != long('2') && long('1').len() == NAME_MAX);
    }

    #[test]
    fn only_what_is_wanted_is_there() {
        let names = |patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            let tools = Tools::new(Path::new("/"), None, &patterns, None).unwrap();
            tools.shown().iter().map(|tool| tool.name.clone()).collect()
        };
        assert_eq!(names(&[]).len(), 6);
        assert_eq!(names(&["file_r*", "shell_run"]), ["file_read", "shell_run"]);
        assert!(names(&["file"]).is_empty());
    }
}
