//! Every field of a manifest, in one table: for the JSON Schema, the manual and `manifest explain`.

use crate::schema::VERSION;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What stands in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text of this form, as a regular expression.
    Text(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A path from the root.
    Path,
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// A size such as `"64MiB"`.
    Size,
    /// A time such as `"5min"`, or `"unlimited"`.
    Life,
    /// An amount of US dollars.
    Money,
    /// A truth value.
    Flag,
    /// A date with an offset.
    Date,
    /// A list of texts of this form.
    Texts(&'static str),
    /// A list of paths.
    Paths,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct FieldInfo {
    /// Its section and name.
    pub name: &'static str,
    /// What stands in it.
    pub kind: Kind,
    /// What it is when it is absent; nothing for a field that has to be there.
    pub absent: Option<&'static str>,
    /// What it grants or says.
    pub about: &'static str,
}

const NAME: &str = "^[a-z0-9-]{1,63}$";
const PERSON: &str = "^[a-z0-9._@-]{1,63}$";
const ANY: &str = "";
const HOST: &str = "^(tls|http|tcp)://(\\*\\.)?[A-Za-z0-9.-]+:[0-9]{1,5}$";
const CREDENTIAL: &str = "^(use [^ ]+ at [^ ]+( in (header|basic|query|form|json|sigv4)( [^ ]+){1,3})?|ssh [^ ]+ to [^ ]+ key [^ ]+|postgres [^ ]+ to [^ ]+|sign [^ ]+|reveal [^ ]+)$";
const PATTERN: &str = "^[A-Za-z0-9._/:@-]*\\*?$";
const ACTION: &str = "^(lifetime\\.unlimited|spawn|adopt|(lease|message|tool|offer):[A-Za-z0-9._/:@-]*\\*?|spend:[0-9]+(\\.[0-9]{1,6})?)$";
const NONE: Option<&str> = Some("none");
const MOST: u64 = i64::MAX.cast_unsigned();

const fn field(
    name: &'static str,
    kind: Kind,
    absent: Option<&'static str>,
    about: &'static str,
) -> FieldInfo {
    FieldInfo { name, kind, absent, about }
}

/// Every field, in the order of a written manifest.
pub const FIELDS: &[FieldInfo] = &[
    field("identity.name", Kind::Text(NAME), None, "What the operator calls the agent; need not be unique."),
    field("identity.role", Kind::Text(NAME), None, "The role whose ceiling bounds it."),
    field("identity.operator", Kind::Text(PERSON), None, "The operator who signs and answers for it."),
    field(
        "audience.machines",
        Kind::Texts("^[a-z0-9*-]{1,63}$"),
        None,
        "The machines that it is for, by identifier; \"*\" is every one.",
    ),
    field("audience.not_before", Kind::Date, Some("at once"), "From when it may be used."),
    field("audience.not_after", Kind::Date, None, "Until when; at that moment it is no longer valid."),
    field(
        "audience.max_spawns",
        Kind::Number(1, MOST),
        None,
        "How many agents may be spawned from it on one machine, ever.",
    ),
    field("program.executable", Kind::Path, None, "What is started; the manifest must let it be executed."),
    field("program.args", Kind::Texts(ANY), NONE, "Its arguments, without its own name; 64 KiB in all."),
    field("program.cwd", Kind::Path, None, "The directory it starts in: /workspace, /tmp or a granted one."),
    field(
        "program.image_environment",
        Kind::Flag,
        Some("false"),
        "Whether it has the variables that its image's maker wrote down, beside those of Octant's own, which stay as they are. Needs filesystem.root.",
    ),
    field(
        "program.image_cwd",
        Kind::Flag,
        Some("false"),
        "Whether it starts in the directory that its image's maker wrote down; in program.cwd where that named none. Needs filesystem.root.",
    ),
    field(
        "filesystem.root",
        Kind::Text("^image:sha256:[0-9a-f]{64}$"),
        NONE,
        "The imported image whose tree lies below everything else; all of it can be read and executed.",
    ),
    field(
        "filesystem.workspace",
        Kind::Text("^(any|snapshot:sha256:[0-9a-f]{64})$"),
        NONE,
        "The snapshot that /workspace begins with; \"any\": that of the agent that it is forked from, if it is.",
    ),
    field(
        "filesystem.read",
        Kind::Paths,
        NONE,
        "Trees of the machine that it may read. Nothing else of the machine is there inside.",
    ),
    field("filesystem.write", Kind::Paths, NONE, "Trees of the machine that it may read and write."),
    field(
        "syscalls.profile",
        Kind::Word(&["minimal", "shell", "python", "node", "compiler"]),
        Some("minimal"),
        "The named set of system calls, and whether places may be both written and executed.",
    ),
    field(
        "syscalls.add",
        Kind::Texts("^[a-z0-9_]{1,63}$"),
        NONE,
        "System calls beyond the profile; those of the deny list are refused whoever signs.",
    ),
    field(
        "executables.utilities",
        Kind::Texts("^[a-z0-9._+\\[-]{1,63}$"),
        NONE,
        "Octant's own utilities in /bin, by name.",
    ),
    field(
        "executables.paths",
        Kind::Paths,
        NONE,
        "Trees whose files may be executed, and read. /workspace and /tmp stand here too, in a profile that allows it; of the machine's own trees below them only those in write are then seen.",
    ),
    field(
        "executables.sha256",
        Kind::Texts("^[0-9a-f]{64}[ \\t]+/"),
        NONE,
        "Files of paths that must have these bytes, each as sha256sum prints it. A copy of them is what is executed.",
    ),
    field(
        "resources.memory_max",
        Kind::Size,
        None,
        "Memory of all its processes; beyond it the kernel kills.",
    ),
    field(
        "resources.memory_high",
        Kind::Size,
        Some("memory_max"),
        "Memory from which its processes are slowed and reclaimed from.",
    ),
    field("resources.pids_max", Kind::Number(1, (1 << 20) - 1), None, "Processes and threads."),
    field(
        "resources.cpu_quota_percent",
        Kind::Number(1, 100_000),
        None,
        "Processor time in hundredths of one processor: 150 is one and a half.",
    ),
    field(
        "resources.cpu_weight",
        Kind::Number(1, 10_000),
        Some("100"),
        "Its share of the processor when others want it too; 100 is everybody's default.",
    ),
    field("resources.workspace_bytes", Kind::Size, Some("16MiB"), "Bytes in /workspace, which is in memory."),
    field("resources.workspace_inodes", Kind::Number(2, 1 << 32), Some("4096"), "Files in /workspace."),
    field("resources.tmp_bytes", Kind::Size, Some("4MiB"), "Bytes in /tmp, which is in memory."),
    field("resources.nofile", Kind::Number(16, 1 << 20), Some("256"), "Open descriptors of one process."),
    field("resources.fsize", Kind::Size, Some("workspace_bytes"), "Bytes of one file."),
    field(
        "resources.io_read_bytes_per_second",
        Kind::Size,
        Some("unlimited"),
        "Bytes that it reads in a second, from each disk that a granted tree lies on. Refused at the spawn where one lies on none of its own.",
    ),
    field(
        "resources.io_write_bytes_per_second",
        Kind::Size,
        Some("unlimited"),
        "Bytes that it writes in a second, the same way.",
    ),
    field(
        "resources.io_read_ops_per_second",
        Kind::Number(crate::limits::IO_OPS_MIN, crate::limits::IO_OPS_MAX),
        Some("unlimited"),
        "Reads in a second, the same way.",
    ),
    field(
        "resources.io_write_ops_per_second",
        Kind::Number(crate::limits::IO_OPS_MIN, crate::limits::IO_OPS_MAX),
        Some("unlimited"),
        "Writes in a second, the same way.",
    ),
    field(
        "lifetime.ttl",
        Kind::Life,
        None,
        "How long it lives, up to ten years; \"unlimited\" needs an approval.",
    ),
    field(
        "lifetime.on_timeout",
        Kind::Word(&["end", "freeze"]),
        Some("end"),
        "What the end of its time to live means for it: it ends, or it is frozen until an operator resumes it for a time.",
    ),
    field(
        "lifetime.on_parent_death",
        Kind::Word(&["terminate", "wind-down", "adopt"]),
        Some("terminate"),
        "What the end of the agent that spawned it means for it.",
    ),
    field(
        "lifetime.retain",
        Kind::Paths,
        NONE,
        "Places in /workspace that are kept after its end, with all that is below them.",
    ),
    field(
        "lifetime.retain_bytes",
        Kind::Size,
        Some("16MiB where something is kept"),
        "Bytes of all files that are kept; up to 1GiB.",
    ),
    field(
        "lifetime.retain_files",
        Kind::Number(1, crate::limits::RETAIN_FILES),
        Some("1024 where something is kept"),
        "Files, directories and links that are kept.",
    ),
    field(
        "network.hosts",
        Kind::Texts(HOST),
        NONE,
        "Hosts that it may reach: PROTOCOL://HOST:PORT. tls is held to the name, http to each request's, tcp to the address alone; *.NAME is everything below NAME and not NAME.",
    ),
    field(
        "network.leases",
        Kind::Texts(HOST),
        NONE,
        "Hosts that it may ask to be lent for a while, each by its name; approvals.required says whether an operator is asked.",
    ),
    field(
        "network.connections",
        Kind::Number(1, crate::limits::CONNECTIONS),
        Some("64"),
        "Connections to them that are open at the same time.",
    ),
    field(
        "network.bytes_per_second",
        Kind::Size,
        Some("as fast as it goes"),
        "Bytes a second to and from them together, at least 1KiB.",
    ),
    field(
        "network.bytes",
        Kind::Size,
        Some("no end"),
        "Bytes to and from them together over its whole life, its descendants' taken out of it.",
    ),
    field(
        "network.requests",
        Kind::Number(0, MOST),
        Some("no end"),
        "Connections, and the further requests on each where requests are read, over its whole life, the same way.",
    ),
    field(
        "credentials.grants",
        Kind::Texts(CREDENTIAL),
        NONE,
        "Secrets: \"use SECRET at HOST\" for a host granted with tls: the gate puts it into requests, the agent never sees it; with \"in PLACE\" elsewhere than in a header for keys: \"header NAME\", \"basic USER\", \"query METHOD PATH FIELD\", \"form ...\", \"json ...\", \"sigv4 KEY-ID REGION SERVICE\" (docs/egress.md); \"ssh SECRET to USER@HOST:PORT key SHA256:...\" for a host granted with tcp: the vault signs logins at the host with that key, and nothing else; \"postgres SECRET to USER@HOST:PORT/DATABASE\" (DATABASE a name, or *) for a host granted with tls on that port: the gate logs in with the secret as the password, the agent never sees it; \"sign SECRET\", \"reveal SECRET\".",
    ),
    field(
        "models.allowed",
        Kind::Texts(PATTERN),
        NONE,
        "Models by name, or by the beginning of names: \"anthropic/*\".",
    ),
    field("models.tokens", Kind::Number(0, MOST), Some("0"), "Tokens in its whole life."),
    field(
        "models.tokens_per_minute",
        Kind::Number(0, MOST),
        Some("tokens"),
        "Tokens in one minute, its own and those of all below it.",
    ),
    field(
        "models.tokens_per_day",
        Kind::Number(0, MOST),
        Some("unlimited"),
        "Tokens in one day, of UTC, its own and those of all below it.",
    ),
    field("models.spend_usd", Kind::Money, Some("0"), "Money in its whole life, in US dollars."),
    field("models.spend_usd_per_minute", Kind::Money, Some("spend_usd"), "Money in one minute, likewise."),
    field("models.spend_usd_per_day", Kind::Money, Some("unlimited"), "Money in one day, likewise."),
    field(
        "models.max_price_usd",
        Kind::Money,
        Some("unlimited"),
        "The most that a million tokens may cost, of the prompt or of the answer.",
    ),
    field(
        "models.data",
        Kind::Word(&["local", "no-retention", "any"]),
        Some("any"),
        "Where what is said may go: to models on this machine, to providers that keep nothing of it, or to every provider.",
    ),
    field(
        "models.keep_prompts",
        Kind::Flag,
        Some("false"),
        "Prompts and answers are kept for operators, and not their digests alone.",
    ),
    field(
        "models.cache",
        Kind::Flag,
        Some("false"),
        "The same request again may be answered with what it was answered before, to this agent.",
    ),
    field(
        "models.extras",
        Kind::Flag,
        Some("false"),
        "Requests may ask a provider for more than an answer to what stands in them: its own tools (web search, code, \
         servers of MCP), pictures and documents at a URL, what it keeps, other models and prices. It reaches hosts past \
         the gate, and may cost more than is set apart.",
    ),
    field("skills.allowed", Kind::Texts(PATTERN), NONE, "Skills by name, or by the beginning of names."),
    field(
        "skills.tools",
        Kind::Texts(PATTERN),
        NONE,
        "Tools of other agents that it may call, by name, or by the beginning of names: \"weather__forecast\", \"weather__*\" (docs/mcp.md).",
    ),
    field(
        "skills.serves",
        Kind::Text("^[a-z0-9][a-z0-9-]{0,23}$"),
        Some("it offers none"),
        "The name under which it offers tools of its own: its program speaks MCP on standard input and output. For agents that an operator spawns.",
    ),
    field(
        "spawning.allowed",
        Kind::Flag,
        Some("false"),
        "Whether it may spawn agents within its own rights.",
    ),
    field(
        "spawning.depth",
        Kind::Number(0, crate::limits::GENERATIONS),
        Some("0"),
        "How many generations below it.",
    ),
    field(
        "spawning.descendants",
        Kind::Number(0, crate::limits::DESCENDANTS),
        Some("0"),
        "How many agents below it in all.",
    ),
    field(
        "rooms.join",
        Kind::Texts("^[a-z0-9._-]{1,63}$"),
        NONE,
        "Rooms in which it may exchange messages with other agents.",
    ),
    field(
        "approvals.required",
        Kind::Texts(ACTION),
        NONE,
        "What an operator has to approve each time: spawn, adopt, lease:SECRET, lease:HOST, message:ROOM, tool:NAME (of a server: git__push; of the agent loop: shell_run), spend:USD (that much at once, or more), lifetime.unlimited and offer:SERVER (which need it anyway).",
    ),
];

/// What the manual and the editor say of a section.
const SECTIONS: &[(&str, &str)] = &[
    ("identity", "Who the agent is."),
    ("audience", "Where, when and how often the manifest may be used."),
    ("program", "What it runs."),
    ("filesystem", "Files of the machine. Its own /workspace and /tmp need no grant."),
    ("syscalls", "System calls."),
    ("executables", "What it may execute."),
    ("resources", "Upper bounds, each kept by the kernel."),
    ("lifetime", "When it ends."),
    ("network", "Hosts."),
    ("credentials", "Secrets of the vault."),
    ("models", "Language models, and what may be spent on them."),
    ("skills", "Skills and tools."),
    ("spawning", "Agents of its own."),
    ("rooms", "Messages between agents."),
    ("approvals", "What needs an operator's word each time."),
];

impl FieldInfo {
    /// Its section, and its name in it.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or((self.name, ""))
    }
}

/// The field of this name.
#[must_use]
pub fn field_info(name: &str) -> Option<&'static FieldInfo> {
    FIELDS.iter().find(|field| field.name == name)
}

/// The JSON Schema of a manifest (draft 2020-12), for editors. It knows the form of each field; what fields say
/// together is for [`crate::Draft::parse`].
#[must_use]
pub fn json_schema() -> Value {
    let mut properties = Map::new();
    properties
        .insert("manifest".into(), json!({"const": VERSION, "description": "The version of the schema."}));
    for (section, about) in SECTIONS {
        let fields = FIELDS.iter().filter(|field| field.parts().0 == *section);
        let mut members = Map::new();
        let mut required = Vec::new();
        for field in fields {
            members.insert(field.parts().1.into(), schema_of(field));
            required.extend(field.absent.is_none().then_some(field.parts().1));
        }
        let section_schema = json!({
            "type": "object",
            "description": about,
            "additionalProperties": false,
            "properties": members,
            "required": required,
        });
        properties.insert((*section).into(), section_schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Octant manifest",
        "description": "What an agent is and may do. Nothing that is not written is granted.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "required": ["manifest", "identity", "audience", "program", "resources", "lifetime"],
    })
}

fn schema_of(field: &FieldInfo) -> Value {
    let list = |items: Value| json!({"type": "array", "maxItems": crate::limits::LIST, "items": items});
    let quantity = |form: &str| json!({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": form}]});
    let path = json!({"type": "string", "pattern": "^/"});
    let mut schema = match field.kind {
        Kind::Text(form) => json!({"type": "string", "pattern": form}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Path => path,
        Kind::Number(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Kind::Size => quantity("^[0-9]+ *(B|KiB|MiB|GiB)?$"),
        Kind::Life => quantity("^([0-9]+ *(ms|s|min|h)?|unlimited)$"),
        Kind::Money => json!({"type": "number", "minimum": 0, "maximum": 1_000_000_000}),
        Kind::Flag => json!({"type": "boolean"}),
        // What an editor for TOML makes of a date without quotes.
        Kind::Date => json!({"type": "string", "format": "date-time"}),
        Kind::Texts(ANY) => list(json!({"type": "string"})),
        Kind::Texts(form) => list(json!({"type": "string", "pattern": form})),
        Kind::Paths => list(path),
    };
    let absent = field.absent.map_or("Has to be there.".to_owned(), |absent| format!("Absent: {absent}."));
    schema["description"] = json!(format!("{} {absent}", field.about));
    schema
}

/// The manual's table of fields, in Markdown, a section each.
#[must_use]
pub fn manual() -> String {
    let mut out = String::new();
    for (section, about) in SECTIONS {
        // A String takes everything.
        let _ = writeln!(out, "\n### [{section}]\n\n{about}\n\n| field | what | absent |\n|---|---|---|");
        for field in FIELDS.iter().filter(|field| field.parts().0 == *section) {
            let absent = field.absent.unwrap_or("refused");
            let (about, name) = (field.about.replace('|', "\\|"), field.parts().1);
            let _ = writeln!(out, "| `{name}` | {} {about} | {absent} |", written(field.kind));
        }
    }
    out
}

fn written(kind: Kind) -> String {
    match kind {
        Kind::Text(_) => "Text.".to_owned(),
        Kind::Word(words) => {
            format!("One of {}.", words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "))
        }
        Kind::Path => "Path.".to_owned(),
        Kind::Number(least, most) if most >= 1 << 32 => format!("Number from {least}."),
        Kind::Number(least, most) => format!("Number from {least} to {most}."),
        Kind::Size => "Size (`B`, `KiB`, `MiB`, `GiB`).".to_owned(),
        Kind::Life => "Time (`ms`, `s`, `min`, `h`).".to_owned(),
        Kind::Money => "Amount, at most six digits behind the point.".to_owned(),
        Kind::Flag => "`true` or `false`.".to_owned(),
        Kind::Date => "Date with offset, without quotes.".to_owned(),
        Kind::Texts(_) => "List of texts.".to_owned(),
        Kind::Paths => "List of paths.".to_owned(),
    }
}
