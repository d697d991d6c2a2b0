//! What can be read by address: each is the answer of one read tool.

use rmcp::model::{JsonObject, ResourceTemplate};

use super::answers::Complaint;
use super::tools::ToolName;

const ACTION: &str = "action://";
const POD: &str = "pod://";

/// The shapes of addresses.
pub fn templates() -> Vec<ResourceTemplate> {
    let of = |address: &str, name: &str, title: &str, description: &str| {
        ResourceTemplate::new(address, name)
            .with_title(title)
            .with_description(description)
            .with_mime_type("application/json")
    };
    vec![
        of(
            "action://{action_id}",
            "action",
            "A proposed action",
            "The state of one of your proposals, as get_action gives it.",
        ),
        of(
            "pod://{cluster}/{namespace}/{name}",
            "pod",
            "A pod",
            "The state of one pod, as get_pod_status gives it.",
        ),
    ]
}

/// The tool that answers for `address`, and its arguments.
///
/// # Errors
/// An address of another shape.
pub fn behind(address: &str) -> Result<(ToolName, JsonObject), Complaint> {
    let arguments = |pairs: &[(&str, &str)]| -> JsonObject {
        let pairs = pairs.iter();
        pairs
            .map(|(name, text)| ((*name).to_owned(), decoded(text).into()))
            .collect()
    };
    if let Some(id) = address.strip_prefix(ACTION) {
        return Ok((ToolName::GetAction, arguments(&[("action_id", id)])));
    }
    // From the right: a cluster's id may have slashes.
    let mut parts = address
        .strip_prefix(POD)
        .unwrap_or_default()
        .rsplitn(3, '/');
    if let (Some(name), Some(namespace), Some(cluster)) = (parts.next(), parts.next(), parts.next())
    {
        let pod = [
            ("cluster", cluster),
            ("namespace", namespace),
            ("pod", name),
        ];
        return Ok((ToolName::GetPodStatus, arguments(&pod)));
    }
    let shown = countersign_domain::one_line(address, 80);
    Err(Complaint::new(
        "unknown_resource",
        format!(
            "there is no resource `{shown}`: use action://ACTION_ID or pod://CLUSTER/NAMESPACE/NAME"
        ),
    ))
}

/// Clients that fill in a template escape what is no letter, digit, `-`, `.`, `_` or `~`.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escaped {
            bytes.push(byte);
            rest = &behind[2..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_tools() {
        let told = |address: &str| match behind(address) {
            Ok((tool, arguments)) => {
                let values: Vec<&str> = arguments.values().filter_map(|v| v.as_str()).collect();
                format!("{} {}", tool.as_str(), values.join(" "))
            }
            Err(complaint) => complaint.message,
        };
        assert_eq!(told("action://1-2"), "get_action 1-2");
        assert_eq!(
            told("pod://prod/shop/web-1"),
            "get_pod_status prod shop web-1"
        );
        assert_eq!(
            told("pod://arn%3Aaws%3Aeks/x/shop/web-1"),
            "get_pod_status arn:aws:eks/x shop web-1"
        );
        for bad in [
            "pod://prod/shop",
            "pod://",
            "secret://prod/shop/x",
            "",
            "%",
            "pod:/a/b/c",
        ] {
            assert!(
                told(bad).contains("use action://ACTION_ID or pod://"),
                "{bad}"
            );
        }
        // Half an escape stays what it is; the tool's own check refuses it.
        assert_eq!(told("pod://prod/shop/a%2"), "get_pod_status prod shop a%2");
    }
}
