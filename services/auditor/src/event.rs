//! A row of history: what happened, and its place in the chain. The columns of `auditor.event`.

/// The chain of what comes from no stream: reads, administration.
pub const SYSTEM_CHAIN: i16 = i16::MAX;

/// What happened. What is not known is `None`; texts never hold U+0000, which Postgres cannot keep
/// ([`latchline_shared::text`]).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// When the broker saw it (the record's `ts`), in Unix milliseconds.
    pub occurred_at_ms: i64,
    /// Where it went.
    pub direction: Direction,
    /// What it was.
    pub kind: Kind,
    /// The lock, by the topic; empty where it is about none.
    pub client_id: String,
    /// Ties a command and its result.
    pub process_id: Option<String>,
    /// `unlock`, `lock`, …; of a read, the operation.
    pub action: Option<String>,
    /// Canonical name of the state.
    pub lock_state: Option<String>,
    /// The state as the lock said it.
    pub lock_state_raw: Option<i64>,
    /// Percent.
    pub battery: Option<f32>,
    /// Client id of the publisher; of a read, the token's name.
    pub publisher: Option<String>,
    /// Client id of the receiver.
    pub receiver: Option<String>,
    /// User name of the publisher (uplink) or the receiver (downlink).
    pub username: Option<String>,
    /// Verdict of a command; `ok`, `failed` or `denied` of a result; else empty.
    pub verdict: String,
    /// Findings beside the verdict.
    pub findings: Vec<String>,
    /// How bad it is.
    pub severity: Severity,
    /// In words: why malformed, why rejected, what was asked for.
    pub reason: Option<String>,
    /// The command's nonce.
    pub nonce_str: Option<String>,
    /// When the command says that it was signed, in Unix seconds.
    pub cmd_ts: Option<i64>,
    /// From then to `occurred_at_ms`, in milliseconds.
    pub skew_ms: Option<i64>,
    /// 64 or 256.
    pub sign_bits: Option<i16>,
    /// The key that the signature verified with, or that the command names.
    pub kid: Option<String>,
    /// The whole record value; what a read asked for, as JSON.
    pub raw: Vec<u8>,
    /// Where the record is; an empty stream is none.
    pub place: Place,
    /// The broker's id of the message.
    pub mid: Option<String>,
    /// The broker's node.
    pub node: Option<String>,
    /// QoS of the message.
    pub qos: Option<i16>,
}

/// Where a record is in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Stream; empty for what comes from none.
    pub stream: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// A row: an event in its place in a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What happened. `raw` is empty if it was removed.
    pub event: Event,
    /// Whether the raw record was removed (is null).
    pub raw_removed: bool,
    /// Hash of the raw record.
    pub raw_sha256: [u8; 32],
    /// The partition of the stream, or [`SYSTEM_CHAIN`].
    pub chain_id: i16,
    /// From 1, without gap.
    pub seq: i64,
    /// When it was written, in Unix microseconds.
    pub ingested_at_us: i64,
    /// The transaction that wrote it.
    pub xid: u64,
    /// See [`crate::chain`].
    pub leaf_hash: [u8; 32],
    /// See [`crate::chain`].
    pub chain_hash: [u8; 32],
    /// See [`crate::chain`].
    pub detail_hash: [u8; 32],
}

/// Makes an enum whose variants have one word each, in the database and on the wire.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its word.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The one with this word.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

words! {
    /// Where something went.
    Direction {
        /// From a lock.
        Uplink = "uplink",
        /// To a lock.
        Downlink = "downlink",
        /// Neither.
        #[default]
        System = "system",
    }
}

words! {
    /// What something was.
    Kind {
        /// A command that was delivered: its receiver acknowledged it.
        Command = "command",
        /// A command that the broker's guard refused.
        Attempt = "attempt",
        /// The first report of a process: how a command ended.
        Result = "result",
        /// A report of another state than the one before.
        Change = "change",
        /// Something that is wrong and is no property of one of the above.
        Finding = "finding",
        /// A change to what the auditor keeps.
        #[default]
        Admin = "admin",
        /// Somebody looked at the history.
        Read = "read",
    }
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(i16)]
pub enum Severity {
    /// Nothing is wrong.
    #[default]
    Info = 0,
    /// Somebody should know.
    Warning = 1,
    /// Something does not work as it should.
    Major = 2,
    /// Somebody attacks, or history is not complete.
    Critical = 3,
}

impl Severity {
    /// All of them, from the mildest.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Major, Self::Critical];

    /// The number in the database.
    pub fn level(self) -> i16 {
        self as i16
    }

    /// The one with this number.
    pub fn from_level(level: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.level() == level)
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}
