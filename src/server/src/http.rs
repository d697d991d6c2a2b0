//! Router assembly.
