//! Programs of others that the bench measures beside the gate and the router, each in one version, below the target directory. None of them
//! becomes part of Octant, and one that cannot be had is left out and named.

use crate::node;
use crate::python;
use crate::sh::Res;
use crate::workspace::Workspace;
use std::path::PathBuf;

/// What mitmproxy's environment has.
pub(crate) const MITMPROXY: &str = "tests/peers/mitmproxy.txt";
/// And LiteLLM's.
pub(crate) const LITELLM: &str = "tests/peers/litellm.txt";

/// A variable, and what installs what it names.
type Peer = (&'static str, fn(&Workspace) -> Res<PathBuf>);

/// Installs what can be of a part's peers, or of all; gives the variables that tell the bench where it is.
pub(crate) fn install(workspace: &Workspace, part: Option<&str>) -> Vec<(&'static str, PathBuf)> {
    const EGRESS: &[Peer] = &[("OCTANT_SANDBOX_RUNTIME", sandbox_runtime), ("OCTANT_MITMPROXY", mitmproxy)];
    const ROUTER: &[Peer] = &[("OCTANT_PORTKEY", portkey), ("OCTANT_LITELLM", litellm)];
    let parts = [("egress", EGRESS), ("router", ROUTER)];
    let wanted = parts.into_iter().filter(|(name, _)| part.is_none_or(|part| part == *name));
    let there = |(variable, install): &Peer| match install(workspace) {
        Ok(path) => Some((*variable, path)),
        Err(why) => {
            println!("      left out: {why}");
            None
        }
    };
    wanted.flat_map(|(_, peers)| peers.iter()).filter_map(there).collect()
}

/// @anthropic-ai/sandbox-runtime: the directory that has its `node_modules`.
fn sandbox_runtime(workspace: &Workspace) -> Res<PathBuf> {
    let dir = workspace.target.join("peers/node");
    node::made(workspace, &dir, "tests/peers", "the proxy of sandbox-runtime (about 3 MB)")
}

/// @portkey-ai/gateway: the same.
fn portkey(workspace: &Workspace) -> Res<PathBuf> {
    let dir = workspace.target.join("peers/portkey");
    node::made(workspace, &dir, "tests/peers/portkey", "the gateway of Portkey (about 10 MB)")
}

/// LiteLLM: the program of its proxy.
fn litellm(workspace: &Workspace) -> Res<PathBuf> {
    let dir = workspace.target.join("peers/litellm");
    python::made(workspace, &dir, LITELLM, "LiteLLM (about 250 MB)")?;
    Ok(dir.join("bin/litellm"))
}

/// mitmproxy: its program without a screen.
fn mitmproxy(workspace: &Workspace) -> Res<PathBuf> {
    let dir = workspace.target.join("peers/mitmproxy");
    python::made(workspace, &dir, MITMPROXY, "mitmproxy (about 40 MB)")?;
    Ok(dir.join("bin/mitmdump"))
}
