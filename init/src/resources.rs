//! What a unit may use at the most: `[resources]` in its file, `[init.resources.NAME]` for one of Octant's own.

use octant_ids::ByteSize;
use serde::{Deserialize, Serialize};

/// The least memory that a unit can be held to: a process needs about so much to say why it cannot go on.
const MEMORY_LEAST: u64 = 1 << 20;
/// cgroup v2's own bounds and the kernel's.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;
const PIDS: std::ops::RangeInclusive<u32> = 1..=(1 << 22);
/// A program has a handful open before its first line; the kernel's `fs.nr_open` is the other end.
const NOFILE: std::ops::RangeInclusive<u64> = 16..=(1 << 20);

/// The bounds of a unit, by the names that a manifest has for an agent's. What is not said is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Bytes of memory; beyond them the kernel kills the unit as a whole.
    pub memory_max: Option<ByteSize>,
    /// Bytes of memory; beyond them the kernel slows the unit down and takes back what it can.
    pub memory_high: Option<ByteSize>,
    /// Processes and threads.
    pub pids_max: Option<u32>,
    /// Its share of the processors among units, where they are short; 100 is everybody's.
    pub cpu_weight: Option<u32>,
    /// Open descriptors of each of its processes.
    pub nofile: Option<u64>,
}

/// What Octant's own units may use unless an operator says otherwise: a fuse, far above what they need. In a machine of two
/// processors that does nothing each has 1 to 3 threads and 0.3 to 3 MiB; a runtime starts up to 512 more for work that
/// blocks. Memory is bounded only where it does not grow with the agents: to kill the ledger or the gate for it would take
/// from every agent what one of them has used.
pub(crate) fn built_in(unit: &str) -> Resources {
    let (pids_max, memory_max) = match unit {
        // One thread, and a line at a time; but where logs lie in memory, their pages are its own.
        "log" => (16, None),
        // A runtime, and a few leases and answers.
        "network" => (1024, Some(ByteSize(256 << 20))),
        // Workers of its own for up to 1,500 agents.
        "egress" => (1 << 15, None),
        // What builds workstations, before it is in the agent's own group.
        "spawner" => (1 << 13, None),
        _ => (1 << 12, None),
    };
    Resources { pids_max: Some(pids_max), memory_max, ..Resources::default() }
}

/// A bound as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    /// The field that says so; none for what goes with another.
    pub(crate) field: Option<&'static str>,
    /// The controller that it needs.
    pub(crate) controller: &'static str,
    /// The file of the group.
    pub(crate) file: &'static str,
    /// What is written into it.
    pub(crate) value: String,
}

impl Resources {
    /// Whether what they say is possible.
    ///
    /// # Errors
    /// The field as a unit's file has it, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for (field, size) in
            [("resources.memory_max", self.memory_max), ("resources.memory_high", self.memory_high)]
        {
            if let Some(size) = size.filter(|size| size.0 < MEMORY_LEAST) {
                return Err((field, format!("{size} of memory: at least 1MiB is needed")));
            }
        }
        if let (Some(max), Some(high)) = (self.memory_max, self.memory_high)
            && high > max
        {
            return Err(("resources.memory_high", format!("memory_high {high} is above memory_max {max}")));
        }
        if let Some(pids) = self.pids_max.filter(|pids| !PIDS.contains(pids)) {
            return Err(("resources.pids_max", format!("pids_max {pids}: 1 to {} are possible", PIDS.end())));
        }
        if let Some(weight) = self.cpu_weight.filter(|weight| !WEIGHTS.contains(weight)) {
            return Err((
                "resources.cpu_weight",
                format!("cpu_weight {weight}: 1 to {} are possible", WEIGHTS.end()),
            ));
        }
        if let Some(count) = self.nofile.filter(|count| !NOFILE.contains(count)) {
            return Err((
                "resources.nofile",
                format!("nofile {count}: {} to {} are possible", NOFILE.start(), NOFILE.end()),
            ));
        }
        Ok(())
    }

    /// These, and what they do not say as `below` does.
    #[must_use]
    pub(crate) fn over(self, below: Self) -> Self {
        let Self { memory_max, memory_high, pids_max, cpu_weight, nofile } = self;
        Self {
            memory_max: memory_max.or(below.memory_max),
            memory_high: memory_high.or(below.memory_high),
            pids_max: pids_max.or(below.pids_max),
            cpu_weight: cpu_weight.or(below.cpu_weight),
            nofile: nofile.or(below.nofile),
        }
    }

    /// What a group's files have to say, each of them, so that a bound that was taken back is none any more. With a bound on
    /// memory go no swap, which would be a way around it, and an end of the unit as a whole: half of one is no service.
    pub(crate) fn bounds(&self) -> [Bound; 6] {
        let row = |field: &'static str, controller, file, value: Option<u64>, none: &str| Bound {
            field: value.map(|_| field),
            controller,
            file,
            value: value.map_or_else(|| none.to_owned(), |value| value.to_string()),
        };
        let with_memory =
            |file, value: &str| Bound { field: None, controller: "memory", file, value: value.to_owned() };
        let (no_swap, whole) = if self.memory_max.is_some() { ("0", "1") } else { ("max", "0") };
        let memory =
            |field, file, size: Option<ByteSize>| row(field, "memory", file, size.map(|size| size.0), "max");
        [
            memory("memory_high", "memory.high", self.memory_high),
            memory("memory_max", "memory.max", self.memory_max),
            with_memory("memory.swap.max", no_swap),
            with_memory("memory.oom.group", whole),
            row("pids_max", "pids", "pids.max", self.pids_max.map(u64::from), "max"),
            row("cpu_weight", "cpu", "cpu.weight", self.cpu_weight.map(u64::from), "100"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Resources {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_is_not_possible_is_refused_by_its_field() {
        assert_eq!(read("memory_max = \"64MiB\"\nmemory_high = \"64MiB\"\npids_max = 1\n").check(), Ok(()));
        for (text, field) in [
            ("memory_max = 4096", "memory_max"),
            ("memory_high = 0", "memory_high"),
            ("memory_max = \"2MiB\"\nmemory_high = \"3MiB\"", "memory_high"),
            ("pids_max = 0", "pids_max"),
            ("cpu_weight = 10001", "cpu_weight"),
            ("nofile = 3", "nofile"),
        ] {
            let (found, why) = read(text).check().unwrap_err();
            assert_eq!(found, format!("resources.{field}"), "{text}: {why}");
        }
        assert!(toml::from_str::<Resources>("memory = 5").is_err());
    }

    #[test]
    fn every_bound_is_written_and_one_that_is_not_said_is_none() {
        let written = |resources: Resources| -> Vec<String> {
            let said = |bound: &Bound| {
                format!("{}={} {}", bound.file, bound.value, bound.field.map_or("-", |field| field))
            };
            resources.bounds().iter().map(said).collect()
        };
        assert_eq!(
            written(Resources::default()),
            [
                "memory.high=max -",
                "memory.max=max -",
                "memory.swap.max=max -",
                "memory.oom.group=0 -",
                "pids.max=max -",
                "cpu.weight=100 -"
            ]
        );
        let some = read("memory_max = \"2MiB\"\npids_max = 9\ncpu_weight = 50\n");
        assert_eq!(
            written(some),
            [
                "memory.high=max -",
                "memory.max=2097152 memory_max",
                "memory.swap.max=0 -",
                "memory.oom.group=1 -",
                "pids.max=9 pids_max",
                "cpu.weight=50 cpu_weight"
            ]
        );
    }

    #[test]
    fn what_is_built_in_is_possible() {
        for unit in ["log", "network", "egress", "spawner", "ledger"] {
            assert_eq!(built_in(unit).check(), Ok(()), "{unit}");
        }
    }

    #[test]
    fn what_an_operator_says_stands_over_what_is_built_in() {
        let both = read("pids_max = 9\n").over(read("pids_max = 5\nmemory_max = \"2MiB\"\n"));
        assert_eq!(both, read("pids_max = 9\nmemory_max = \"2MiB\"\n"));
    }
}
