//! The words: templates, phrases, and how they are filled.
