//! Sessions and webhooks.

use countersign_store::*;

use crate::on_both_engines;
use crate::world::*;

on_both_engines! {
    async fn a_session_lives_until_it_runs_out_or_is_deleted(world: World) {
        let session = |hash: &str, until| Session {
            token_hash: hash.into(), person: "li".into(), csrf: "c".into(),
            created_at: now(), expires_at: until,
        };
        for (hash, until) in [("a", 60), ("b", 120), ("c", 120)] {
            world.server.session_create(&session(hash, later(until))).await.unwrap();
        }
        assert!(world.server.session_create(&session("a", later(1))).await.is_err());
        let found = world.server.session_get("a", later(59)).await.unwrap().unwrap();
        assert_eq!((found.person.as_str(), found.csrf.as_str(), found.expires_at), ("li", "c", later(60)));
        assert!(world.server.session_get("a", later(60)).await.unwrap().is_none());
        assert!(world.server.session_get("nobody", now()).await.unwrap().is_none());
        world.server.session_delete("b").await.unwrap();
        assert!(world.server.session_get("b", now()).await.unwrap().is_none());
        assert_eq!(world.server.sessions_sweep(later(60)).await.unwrap(), 1);
        assert!(world.server.session_get("c", later(60)).await.unwrap().is_some());
        // Also one that a clock made that was wrong then.
        let ahead = Session { created_at: later(3600), ..session("d", later(7200)) };
        world.server.session_create(&ahead).await.unwrap();
        world.server.sessions_end().await.unwrap();
        for hash in ["c", "d"] {
            assert!(world.server.session_get(hash, later(62)).await.unwrap().is_none());
        }
    }

    async fn a_webhook_is_stored_once_and_handed_out_until_it_is_done(world: World) {
        let body = [0u8, 255, b'{'];
        assert!(world.server.webhook_store("w1", &body, now()).await.unwrap());
        assert!(!world.server.webhook_store("w1", b"other", now()).await.unwrap());
        assert!(world.server.webhook_store("w2", b"", now()).await.unwrap());
        let taken = world.server.webhook_take(10).await.unwrap();
        assert_eq!(taken.iter().map(|it| it.1.clone()).collect::<Vec<_>>(), [body.to_vec(), vec![]]);
        world.server.webhook_done(taken[0].0, later(1)).await.unwrap();
        assert_eq!(world.server.webhook_take(10).await.unwrap(), taken[1..]);
        assert!(!world.server.webhook_store("w1", &body, later(2)).await.unwrap(), "still known");
        world.server.sessions_sweep(later(8 * 86400)).await.unwrap();
        assert!(world.server.webhook_store("w1", &body, later(8 * 86400)).await.unwrap(), "forgotten");
        assert_eq!(world.server.webhook_take(1).await.unwrap(), taken[1..], "what is not done stays");
    }
}
