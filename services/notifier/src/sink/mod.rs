//! Stand-ins for a mail server, an SMS gateway and a webhook's receiver: they count, and misbehave as told.
