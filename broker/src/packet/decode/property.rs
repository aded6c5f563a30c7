//! Property blocks (MQTT 5, section 2.2.2).

use super::flaw::Flaw;
use super::reader::Reader;
use crate::packet::wire::property;

/// A property that is unknown, or known but not for this packet (section 2.2.2.2).
pub(super) const NOT_ALLOWED: Flaw = Flaw::malformed("property is not allowed here");

/// Reads a property block: its length, then each property, whose value `read` takes by its id.
/// A property that comes twice is refused here for all packets; only User Property may.
pub(super) fn read(
    body: &mut Reader,
    mut read: impl FnMut(u8, &mut Reader) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    let bytes = body.varint()?;
    let mut block = body.part(bytes as usize)?;
    let mut seen: u64 = 0;
    while !block.is_empty() {
        let id = block.u8()?;
        // Identifiers are below 64, so one word remembers all of them.
        let bit = 1u64.checked_shl(u32::from(id)).ok_or(NOT_ALLOWED)?;
        if seen & bit != 0 && id != property::USER {
            return Err(Flaw::protocol("property comes twice"));
        }
        seen |= bit;
        read(id, &mut block)?;
    }
    Ok(())
}

/// Reads a property block that may hold nothing but a reason string and user properties. Both are
/// checked and forgotten: nobody acts on what a client says there.
pub(super) fn read_reason(body: &mut Reader) -> Result<(), Flaw> {
    read(body, |id, value| match id {
        property::REASON_STRING => value.text().map(drop),
        _ => read_user(id, value),
    })
}

/// Checks a user property; no other is allowed.
pub(super) fn read_user(id: u8, value: &mut Reader) -> Result<(), Flaw> {
    if id != property::USER {
        return Err(NOT_ALLOWED);
    }
    value.text()?;
    value.text()?;
    Ok(())
}
