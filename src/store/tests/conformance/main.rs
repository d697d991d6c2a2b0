//! One suite, both engines. Every test runs on SQLite and on PostgreSQL, through two handles that
//! stand for two processes; on PostgreSQL each with the role that its process has.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod deciding;
mod executing;
mod opening;
mod outbox;
mod proposing;
mod random;
mod reading;
mod roles;
mod sessions;
mod world;

/// `async fn name(world: World)`, once for each engine.
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($world:ident: World) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$meta])*
            async fn check($world: $crate::world::World) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check($crate::world::World::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                check($crate::world::World::postgres().await).await;
            }
        }
    )*};
}
pub(crate) use on_both_engines;
