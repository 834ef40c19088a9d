//! A tool: a method of a service's own table, as MCP shows it.

use octant_api::rpc::Method;
use serde_json::{Value, json};

/// A tool.
#[derive(Debug, Clone)]
pub struct Tool {
    /// The method that it is.
    pub method: &'static Method,
    /// Its name: the method's, without the service's.
    pub name: &'static str,
    shown: Value,
}

impl Tool {
    /// The tool that a method is; none where it has what a tool cannot give: items before its answer, or descriptors.
    #[must_use]
    pub fn of(method: &'static Method, params: Value, answer: Value) -> Option<Self> {
        if method.stream || method.fds_in + method.fds_out > 0 {
            return None;
        }
        let (_, name) = method.name.split_once('.')?;
        let about = method.about.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let shown = json!({
            "name": name,
            "description": about.trim(),
            "inputSchema": params,
            "outputSchema": answer,
            "annotations": { "idempotentHint": method.idempotent, "openWorldHint": false },
        });
        Some(Self { method, name, shown })
    }

    /// As `tools/list` shows it.
    #[must_use]
    pub fn shown(&self) -> &Value {
        &self.shown
    }
}
