use super::*;

fn none(_: &str) -> Option<String> {
    None
}

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "AGENTBAY_API_KEY" => " env-key ",
        "AGENTBAY_ENDPOINT" => "env.example.org",
        "AGENTBAY_REGION_ID" => "ap-southeast-1",
        "AGENTBAY_TIMEOUT_MS" => "1500",
        _ => return None,
    };
    Some(value.to_owned())
}

fn builder() -> AgentBayBuilder {
    AgentBayBuilder::new().api_key("k")
}

#[test]
fn code_beats_the_environment_which_beats_the_defaults() {
    let place = builder().place(none).unwrap();
    assert_eq!(place.endpoint.as_str(), format!("{ENDPOINT}/"));
    assert_eq!(place.request_limit, Duration::from_secs(60));
    assert_eq!(place.region, None);

    let place = AgentBayBuilder::new().place(environment).unwrap();
    assert_eq!(place.key.expose(), "env-key");
    assert_eq!(place.endpoint.as_str(), "https://env.example.org/");
    assert_eq!(place.request_limit, Duration::from_millis(1500));
    assert_eq!(place.region.as_deref(), Some("ap-southeast-1"));

    let place = builder()
        .endpoint("https://code.example.org")
        .region("us-east-1")
        .request_limit(SECOND)
        .place(environment)
        .unwrap();
    assert_eq!(place.key.expose(), "k");
    assert_eq!(place.endpoint.as_str(), "https://code.example.org/");
    assert_eq!(place.request_limit, SECOND);
    assert_eq!(place.region.as_deref(), Some("us-east-1"));
}

#[test]
fn a_region_in_the_code_beats_an_endpoint_of_the_environment() {
    let place = builder().region("us-east-1").place(environment).unwrap();
    assert_eq!(
        place.endpoint.host_str(),
        Some("agentbay.us-east-1.aliyuncs.com")
    );
    let place = builder().region("ap-southeast-1").place(none).unwrap();
    assert_eq!(
        place.endpoint.host_str(),
        Some("wuyingai.ap-southeast-1.aliyuncs.com")
    );
}

#[test]
fn what_is_missing_or_malformed_is_said_and_not_repeated() {
    let refused = |builder: AgentBayBuilder| builder.place(none).unwrap_err();
    let error = refused(AgentBayBuilder::new());
    assert_eq!((error.field(), error.value()), ("api_key", Value::Missing));
    for key in ["", "a b", "käse", "a\nb"] {
        let error = refused(AgentBayBuilder::new().api_key(key));
        assert_eq!(
            (error.field(), error.value()),
            ("api_key", Value::Malformed)
        );
    }
    for endpoint in [
        "",
        "http://example.org",
        "ftp://example.org",
        "https://u:p@example.org",
        "https://",
        "https://example.org/path",
        "https://example.org?query",
        "https://example.org/#part",
    ] {
        let error = refused(builder().endpoint(endpoint));
        assert_eq!(error.field(), "endpoint", "{endpoint}");
    }
    for region in ["", "a.b", "evil/", "A"] {
        let error = refused(builder().endpoint("https://x").region(region));
        assert_eq!(error.field(), "region", "{region}");
    }
    let environment = |name: &str| (name == "AGENTBAY_TIMEOUT_MS").then(|| "soon".to_owned());
    let error = builder().place(environment).unwrap_err();
    assert_eq!(error.field(), "request_limit");
    assert!(!error.to_string().contains("soon"));
}

#[test]
fn plain_http_to_others_must_be_asked_for() {
    let plain = builder().endpoint("http://agentbay:8080");
    assert!(plain.clone().place(none).is_err());
    assert!(plain.plain_http(true).place(none).is_ok());
    assert!(builder().endpoint("http://127.0.0.1:1").place(none).is_ok());
}

#[test]
fn zeros_are_refused() {
    let zero = Duration::ZERO;
    let local = || builder().endpoint("http://127.0.0.1:1");
    for (field, builder) in [
        ("request_limit", local().request_limit(zero)),
        ("connect_limit", local().connect_limit(zero)),
        ("direct_limit", local().direct_limit(zero)),
        ("delete_poll", local().delete_poll(SECOND, zero)),
        ("pause_poll", local().pause_poll(zero, SECOND)),
        ("max_reply", local().max_reply(0)),
        ("max_file", local().max_file(0)),
        ("max_known", local().max_known(0)),
    ] {
        assert_eq!(builder.build().unwrap_err().field(), field);
    }
}
