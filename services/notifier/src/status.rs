//! Where a notification stands, and how an attempt to deliver it ended.

use latchline_shared::words;

words! {
    /// Where a notification stands.
    Status {
        /// Waits for its time, or for its digest.
        Pending = "pending",
        /// Leased by a worker: an attempt is under way.
        Sending = "sending",
        /// A provider has accepted it.
        Sent = "sent",
        /// It arrived, as the provider reported.
        Delivered = "delivered",
        /// It did not arrive, as the provider reported.
        Undelivered = "undelivered",
        /// It may have been sent; it is not sent again. A delivery report, or somebody, settles it.
        Ambiguous = "ambiguous",
        /// It was told in a digest.
        Digested = "digested",
        /// Nobody wanted to be told, or could be.
        Suppressed = "suppressed",
        /// It was too late.
        Expired = "expired",
        /// It was refused for good, or too often for the moment.
        Dead = "dead",
    }
}

impl Status {
    /// Whether nothing more happens to it by itself, delivery reports apart.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Sending)
    }
}

words! {
    /// How an attempt ended.
    Outcome {
        /// It is under way, or whoever made it died before writing its end.
        Started = "started",
        /// The provider took it.
        Accepted = "accepted",
        /// The provider said: later.
        Transient = "transient",
        /// The provider could not be talked to, or does not talk to us. It got nothing.
        Unavailable = "unavailable",
        /// The provider said: never.
        Permanent = "permanent",
        /// The provider got it, or may have, and did not answer.
        Ambiguous = "ambiguous",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_not_final() {
        for status in Status::ALL {
            assert_eq!(status.is_final(), !["pending", "sending"].contains(&status.name()));
        }
    }
}
