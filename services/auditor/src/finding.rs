//! What can be wrong beside the verdict of a command (contract, section 4).

use crate::event::Severity;

/// Something that somebody should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// The client that acknowledged a command is not the lock in its topic: someone listens in.
    UnexpectedReceiver,
    /// Topic, record and payload of a report name different locks: somebody speaks for another.
    IdentityMismatch,
    /// The publisher of a command is not among those that may.
    UnauthorisedPublisher,
    /// Two commands with different nonces share a process.
    ProcessIdReuse,
    /// A lock did not say in time what became of a command.
    NoResult,
    /// A lock reported the result of a command that nobody delivered.
    OrphanResult,
    /// A result is of another action than the command, or contradicts the state beside it.
    ResultMismatch,
    /// A lock reported a state that its profile does not list.
    UnknownLockState,
    /// A report, or a part of it, cannot be read.
    InvalidReport,
    /// Records were deleted before they were read.
    LogTruncated,
}

impl Finding {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::UnexpectedReceiver,
        Self::IdentityMismatch,
        Self::UnauthorisedPublisher,
        Self::ProcessIdReuse,
        Self::NoResult,
        Self::OrphanResult,
        Self::ResultMismatch,
        Self::UnknownLockState,
        Self::InvalidReport,
        Self::LogTruncated,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnexpectedReceiver => "unexpected_receiver",
            Self::IdentityMismatch => "identity_mismatch",
            Self::UnauthorisedPublisher => "unauthorised_publisher",
            Self::ProcessIdReuse => "process_id_reuse",
            Self::NoResult => "no_result",
            Self::OrphanResult => "orphan_result",
            Self::ResultMismatch => "result_mismatch",
            Self::UnknownLockState => "unknown_lock_state",
            Self::InvalidReport => "invalid_report",
            Self::LogTruncated => "log_truncated",
        }
    }

    /// The finding with this word, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|finding| finding.name() == name)
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::UnexpectedReceiver | Self::IdentityMismatch | Self::LogTruncated => Severity::Critical,
            Self::UnauthorisedPublisher | Self::OrphanResult | Self::ResultMismatch => Severity::Major,
            Self::ProcessIdReuse | Self::NoResult | Self::UnknownLockState | Self::InvalidReport => {
                Severity::Warning
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for finding in Finding::ALL {
            assert_eq!(Finding::from_name(finding.name()), Some(finding));
        }
        assert_eq!(Finding::from_name("replay"), None);
    }
}
