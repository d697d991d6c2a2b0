//! For tests and benchmarks of this and other crates; behind the feature `testing`.

mod throwaway;

pub use throwaway::{Role, ThrowawayPostgres};
