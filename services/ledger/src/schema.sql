-- The index of the ledger: which entries a query has to read. Everything in it comes from the log, and it can be
-- thrown away at any time. A run is 4,096 entries that follow each other: run 0 has the numbers 1 to 4096. Every row
-- but that of `state` belongs to one run, so that adding an entry touches the pages of the last run only, however
-- random its digests are and however long the log is.

-- What is indexed: the entries `first` to `last`, of which the last has this hash.
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    hash BLOB NOT NULL
);

-- When an entry was appended, in milliseconds since 1970. Clocks jump, so this is not in the order of the numbers.
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY,
    wall_ms INTEGER NOT NULL
);

-- The earliest and the latest time in a run: a query for a time passes over the other runs.
CREATE TABLE span (
    run INTEGER PRIMARY KEY,
    min_ms INTEGER NOT NULL,
    max_ms INTEGER NOT NULL
);

-- In which places of a run the entries stand that have something in common. `what` says what: 0 the subject (its 32
-- bytes), 1 the intent (8 bytes, big endian), 2 the agent (16 bytes), 3 the actor (its text), 4 the kind (its number,
-- one byte). `places` are numbers from the start of the run: fewer than 256 of them as two bytes each, little endian,
-- ascending; otherwise 512 bytes with one bit for each place, the lowest bit of the first byte first.
CREATE TABLE posting (
    run INTEGER NOT NULL,
    what INTEGER NOT NULL,
    key BLOB NOT NULL,
    places BLOB NOT NULL,
    PRIMARY KEY (run, what, key)
) WITHOUT ROWID;
