//! Configuration: one commented default document per binary, embedded in it, that is defaults,
//! reference and schema at once.

pub mod value;

/// What cannot be said by a type: bounds, and settings that fight each other.
pub trait Validate {
    /// Adds every problem; each begins with the key path it is about (`limits.receive_max: …`).
    fn problems(&self, problems: &mut Vec<String>);
}
