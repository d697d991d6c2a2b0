//! Images that do not come.

use super::*;

const IMAGE: &str = "registry.example.com/shop/web:1.3";

fn pulling(reason: &str, message: &str) -> Value {
    let mut app = waiting("app", reason, 0);
    app["state"]["waiting"]["message"] = json!(message);
    json!({
        "spec": { "containers": [{ "name": "app", "image": IMAGE }] },
        "status": {
            "phase": "Pending", "startTime": before(12.0), "conditions": unready(12.0),
            "containerStatuses": [app],
        },
    })
}

fn failed(cause: &str) -> Value {
    let message = format!(
        "Back-off pulling image \"{IMAGE}\": ErrImagePull: rpc error: code = Unknown desc = {cause}"
    );
    pulling("ImagePullBackOff", &message)
}

pub(super) fn states() -> Vec<State> {
    let mut with_secret = failed(
        "failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized",
    );
    with_secret["spec"]["imagePullSecrets"] = json!([{ "name": "regcred" }]);
    let never = json!({ "status": {
        "phase": "Pending", "startTime": before(12.0), "conditions": unready(12.0),
        "containerStatuses": [waiting("app", "ErrImageNeverPull", 0)],
    } });
    let invalid = {
        let mut app = waiting("app", "InvalidImageName", 0);
        app["state"]["waiting"]["message"] = json!("couldn't parse image name");
        json!({
            "spec": { "containers": [{ "name": "app", "image": "Web:1.3:x" }] },
            "status": {
                "phase": "Pending", "startTime": before(12.0), "conditions": unready(12.0),
                "containerStatuses": [app],
            },
        })
    };
    vec![
        state(
            "image not found",
            "ImagePullBackOff",
            failed(
                "failed to resolve reference \"registry.example.com/shop/web:1.3\": \
                    registry.example.com/shop/web:1.3: not found",
            ),
        )
        .rollout(3, "15", 12.5)
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: the registry has no such image or tag. Revision 15 of Deployment web was \
             first rolled out at 01:47 UTC.",
        ),
        state(
            "image not found, told by an event only",
            "ErrImagePull or ImagePullBackOff of an older kubelet",
            pulling(
                "ImagePullBackOff",
                "Back-off pulling image \"registry.example.com/shop/web:1.3\"",
            ),
        )
        .event(
            "Failed",
            "Failed to pull image \"registry.example.com/shop/web:1.3\": manifest unknown",
            5,
            2.0,
        )
        .event("Failed", "Error: ErrImagePull", 5, 1.9)
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: the registry has no such image or tag.",
        ),
        state(
            "image refused, credentials",
            "ImagePullBackOff, 401 from the registry",
            with_secret,
        )
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: the registry refuses it for want of valid credentials; the pod uses the \
             imagePullSecret regcred.",
        ),
        state(
            "image refused, no credentials",
            "ErrImagePull, 403 from the registry",
            pulling(
                "ErrImagePull",
                "unexpected status from HEAD request: 403 Forbidden",
            ),
        )
        .judged("ErrImagePull, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: the registry refuses it for want of valid credentials; the pod names no \
             imagePullSecrets.",
        ),
        state(
            "image missing or secret",
            "ImagePullBackOff, a registry that does not tell which",
            failed("pull access denied, repository does not exist or may require authorization"),
        )
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: the registry says that it does not exist or needs credentials: check the \
             name first, then imagePullSecrets.",
        ),
        state(
            "image rate limit",
            "ImagePullBackOff, 429 from the registry",
            failed(
                "429 Too Many Requests - toomanyrequests: You have reached your pull rate limit",
            ),
        )
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: the registry's rate limit is reached (429): pulls go on when it resets, or \
             with credentials of a larger limit.",
        ),
        state(
            "image registry does not resolve",
            "ImagePullBackOff, DNS",
            failed("dial tcp: lookup registry.example.com on 10.0.0.10:53: no such host"),
        )
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: the registry's name does not resolve on node node-1 (DNS).",
        ),
        state(
            "image registry does not answer",
            "ImagePullBackOff, timeout",
            failed("dial tcp 10.1.2.3:443: i/o timeout"),
        )
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: the registry does not answer node node-1 (timeout or refused connection).",
        ),
        state(
            "image registry is not trusted",
            "ImagePullBackOff, certificate",
            failed(
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            ),
        )
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: node node-1 does not trust the registry's certificate (x509).",
        ),
        state(
            "image of another platform",
            "ImagePullBackOff, no match for platform",
            failed("no match for platform in manifest: not found"),
        )
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: the image has no variant for the platform of node node-1.",
        ),
        state(
            "image pull fails for an unheard-of cause",
            "ImagePullBackOff, unknown words",
            failed("the moon is in the wrong house"),
        )
        .judged("ImagePullBackOff, 12 min")
        .says(
            "Container app has been unable to pull image registry.example.com/shop/web:1.3 for \
             12 min: ⟦Back-off pulling image \"registry.example.com/shop/web:1.3\": ErrImagePull: \
             rpc error: code = Unknown desc = the moon is in the wrong house⟧.",
        ),
        state("image name not valid", "InvalidImageName", invalid)
            .judged("InvalidImageName, 12 min")
            .says("Container app cannot start: ⟦Web:1.3:x⟧ is not a valid image name."),
        state("image may not be pulled", "ErrImageNeverPull", never)
            .judged("ErrImageNeverPull, 12 min")
            .says(
                "Container app cannot start: image web:1.2 is not on node node-1, and \
                 imagePullPolicy Never forbids to pull it.",
            ),
    ]
}
