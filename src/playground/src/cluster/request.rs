//! What a request asks for: verb, resource, namespace, name, as the API server's RequestInfo.

use std::collections::BTreeMap;

use http::Method;

/// The attributes that authorization and audit look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub verb: &'static str,
    pub group: String,
    /// Empty for paths that are not resources.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
}

/// A parsed request: attributes, the version that the path names, and the query.
#[derive(Debug)]
pub struct Asked {
    pub attributes: Attributes,
    pub version: String,
    pub query: BTreeMap<String, String>,
}

impl Asked {
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Self {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let mut attributes = Attributes {
            verb: match *method {
                Method::POST => "create",
                Method::PUT => "update",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "get",
            },
            path: path.to_owned(),
            ..Attributes::default()
        };
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => {
                return Self {
                    attributes,
                    version: String::new(),
                    query,
                };
            }
        };
        attributes.group = group.to_owned();
        match rest {
            ["namespaces"] => attributes.resource = "namespaces".to_owned(),
            ["namespaces", namespace] => {
                attributes.resource = "namespaces".to_owned();
                attributes.namespace = (*namespace).to_owned();
                attributes.name = (*namespace).to_owned();
            }
            ["namespaces", namespace, part @ ("status" | "finalize")] => {
                attributes.resource = "namespaces".to_owned();
                attributes.namespace = (*namespace).to_owned();
                attributes.name = (*namespace).to_owned();
                attributes.subresource = (*part).to_owned();
            }
            ["namespaces", namespace, rest @ ..] => {
                attributes.namespace = (*namespace).to_owned();
                attributes.take_resource(rest);
            }
            rest => attributes.take_resource(rest),
        }
        if attributes.name.is_empty() {
            match attributes.verb {
                "get" if is_true(query.get("watch")) => attributes.verb = "watch",
                "get" => attributes.verb = "list",
                "delete" => attributes.verb = "deletecollection",
                _ => {}
            }
        }
        Self {
            attributes,
            version: version.to_owned(),
            query,
        }
    }

    pub fn query(&self, key: &str) -> Option<&str> {
        self.query
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub fn flag(&self, key: &str) -> bool {
        is_true(self.query.get(key))
    }
}

impl Attributes {
    fn take_resource(&mut self, rest: &[&str]) {
        let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        self.resource = part(0);
        self.name = part(1);
        self.subresource = part(2);
    }
}

fn is_true(value: Option<&String>) -> bool {
    value.is_some_and(|value| matches!(value.as_str(), "true" | "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, path: &str, query: &str) -> Attributes {
        Asked::parse(method, path, Some(query)).attributes
    }

    #[test]
    fn reads_the_shapes_of_paths() {
        let pod = parse(&Method::POST, "/api/v1/namespaces/shop/pods/a/eviction", "");
        assert_eq!(
            (
                pod.verb,
                &*pod.namespace,
                &*pod.resource,
                &*pod.name,
                &*pod.subresource
            ),
            ("create", "shop", "pods", "a", "eviction")
        );
        let nodes = parse(&Method::GET, "/api/v1/nodes", "watch=1");
        assert_eq!(
            (nodes.verb, &*nodes.resource, &*nodes.namespace),
            ("watch", "nodes", "")
        );
        let namespace = parse(&Method::GET, "/api/v1/namespaces/shop", "");
        assert_eq!((namespace.verb, &*namespace.name), ("get", "shop"));
        let lease = parse(
            &Method::GET,
            "/apis/coordination.k8s.io/v1/namespaces/x/leases",
            "",
        );
        assert_eq!((lease.verb, &*lease.group), ("list", "coordination.k8s.io"));
        assert_eq!(parse(&Method::GET, "/version", "").resource, "");
    }
}
