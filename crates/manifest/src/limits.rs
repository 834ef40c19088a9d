//! The bounds of everything that is read from outside.

/// The longest envelope, in bytes.
pub const ENVELOPE_BYTES: usize = 256 << 10;
/// The longest manifest, in bytes: what fits an envelope in base 64, with room for the signatures.
pub const MANIFEST_BYTES: usize = 160 << 10;
/// How long the text about all that is wrong with a manifest can get, in bytes, beyond the first problem.
pub const PROBLEMS_BYTES: usize = 8 << 10;
/// The longest answer to a request for approval, with its envelope, in bytes.
pub const ANSWER_BYTES: usize = 4 << 10;
/// For how long an answer can count, in milliseconds: a day.
pub const ANSWER_MS: u64 = 86_400_000;
/// How many signatures an envelope may carry; each is tried against every trusted key.
pub const SIGNATURES: usize = 8;
/// The deepest nesting in a manifest. The schema itself needs 3.
pub const DEPTH: usize = 8;
/// The longest list in a manifest.
pub const LIST: usize = 256;
/// The longest path, in bytes (PATH_MAX less its terminator).
pub const PATH_BYTES: usize = 4095;
/// The longest component of a path, in bytes (NAME_MAX).
pub const COMPONENT_BYTES: usize = 255;
/// How many components a path may have.
pub const COMPONENTS: usize = 64;
/// The longest text that is not a path (an argument, a name), in bytes.
pub const TEXT_BYTES: usize = 4096;
/// The longest argument list, in bytes with terminators.
pub const ARGS_BYTES: usize = 64 << 10;
/// How many key files the trusted set may have.
pub const KEY_FILES: usize = 256;
/// The longest key file, in bytes.
pub const KEY_FILE_BYTES: usize = 64 << 10;
/// The longest name of an identity, role, operator or utility, in bytes.
pub const NAME_BYTES: usize = 63;
/// The longest name, or beginning of names, of a secret, model, skill or tool, in bytes.
pub const PATTERN_BYTES: usize = 128;
/// The longest time to live, in milliseconds: ten years, so that adding it to a clock cannot overflow.
pub const TTL_MS: u64 = 10 * 366 * 86_400_000;
/// The most generations that an agent can have below it.
pub const GENERATIONS: u64 = 16;
/// The most descendants that an agent can have over its life.
pub const DESCENDANTS: u64 = 1 << 20;
/// The most executables with a digest.
pub const PINS: usize = 32;
/// The most rooms that an agent can be in.
pub const ROOMS: usize = 32;
/// The most places of a workspace that are kept after an agent's end.
pub const RETAIN_PLACES: usize = 64;
/// The most bytes that are kept of one agent.
pub const RETAIN_BYTES: u64 = 1 << 30;
/// The most files, directories and links that are kept of one agent.
pub const RETAIN_FILES: u64 = 1 << 16;
/// The least memory that a program can be started in, in bytes.
pub const MEMORY_MIN_BYTES: u64 = 4 << 20;
/// Connections that one agent can have open at the same time.
pub(crate) const CONNECTIONS: u64 = 4096;
