//! docker-compose.yml, the files it mounts and the Dockerfile agree with each other, with what the tests run on, and with
//! the defaults in the code. Nothing here starts a container.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;
use tidemill::cli::args::Cli;
use whole::Tidemill;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&text(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn compose() -> Value {
    yaml("docker-compose.yml")
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().map_or(vec![], |l| l.iter().map(|s| s.as_str().unwrap().to_owned()).collect())
}

/// An environment as compose hands it over.
fn environment(service: &Value) -> Vec<(String, String)> {
    let as_text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    service["environment"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), as_text(v))).collect()
}

fn get<'a>(environment: &'a [(String, String)], key: &str) -> &'a str {
    &environment.iter().find(|(k, _)| k == key).unwrap_or_else(|| panic!("no {key}")).1
}

#[test]
fn images_are_pinned_to_what_the_tests_run_on() {
    let compose = compose();
    let image = |service: &str| compose["services"][service]["image"].as_str().unwrap().to_owned();
    for (name, service) in compose["services"].as_object().unwrap() {
        if let Some(image) = service["image"].as_str() {
            let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image} has no version"));
            assert!(tag.split('.').count() >= 3, "{name}: {image} is not one version");
        }
    }
    let kafka = text("tests/services/pom.xml");
    let kafka = kafka.split("<kafka.version>").nth(1).unwrap().split('<').next().unwrap();
    assert_eq!(image("kafka"), format!("apache/kafka:{kafka}"));
    let versions = text("tests/services/lib.sh");
    let version = |of: &str| versions.lines().find_map(|l| l.strip_prefix(&format!("{of}_version="))).unwrap();
    assert_eq!(image("registry"), format!("apicurio/apicurio-registry:{}", version("apicurio")));
    assert_eq!(image("opensearch"), format!("opensearchproject/opensearch:{}", version("opensearch")));
    assert_eq!(image("s3"), format!("versity/versitygw:v{}", version("versitygw")));
    let rust = text("Cargo.toml");
    let rust = rust.lines().find_map(|l| l.strip_prefix("rust-version = ")).unwrap().trim_matches('"').to_owned();
    assert!(text("Dockerfile").contains(&format!("FROM rust:{rust}-")), "the Dockerfile builds with another Rust");
}

#[test]
fn tidemill_takes_its_settings_and_they_lead_to_the_services() {
    let compose = compose();
    let (services, of) = (&compose["services"], &compose["services"]["tidemill"]);
    let dir = tempfile::tempdir().unwrap();
    let mut c = Tidemill::new(dir.path()).command(&["config", "show"]);
    c.envs(environment(of));
    let shown: toml::Value = toml::from_str(&whole::output(&mut c, "")).unwrap();

    let kafka = environment(&services["kafka"]);
    let brokers = shown["kafka"]["brokers"].as_str().unwrap();
    let advertised: Vec<&str> = get(&kafka, "KAFKA_ADVERTISED_LISTENERS").split(',').collect();
    assert!(advertised.contains(&&*format!("INSIDE://{brokers}")), "{brokers} is not among {advertised:?}");
    let (_, port) = brokers.split_once(':').unwrap();
    assert!(get(&kafka, "KAFKA_LISTENERS").split(',').any(|l| l == format!("INSIDE://:{port}")));
    // The session of a member is the broker's to set: the default of both.
    assert_eq!(get(&kafka, "KAFKA_GROUP_CONSUMER_SESSION_TIMEOUT_MS"), "45000");
    assert_eq!(get(&kafka, "KAFKA_AUTO_CREATE_TOPICS_ENABLE"), "false");
    let replicas = shown["kafka"]["replication"].as_integer().unwrap();
    assert_eq!((replicas, get(&kafka, "KAFKA_DEFAULT_REPLICATION_FACTOR")), (0, "1"), "one broker holds one replica");

    let registry = url::Url::parse(shown["registry"]["url"].as_str().unwrap()).unwrap();
    assert_eq!(registry.host_str(), Some("registry"));
    let port = get(&environment(&services["registry"]), "QUARKUS_HTTP_PORT").to_owned();
    assert_eq!(registry.port().unwrap().to_string(), port);
    let healthy = strings(&services["registry"]["healthcheck"]["test"]).join(" ");
    assert!(healthy.contains(registry.path()), "{healthy}");

    let index = url::Url::parse(shown["opensearch"]["url"].as_str().unwrap()).unwrap();
    assert_eq!((index.host_str(), index.port()), (Some("opensearch"), Some(9200)));
    assert_eq!(strings(&services["opensearch"]["ports"]), ["127.0.0.1:9200:9200"]);

    let redis = url::Url::parse(shown["store"]["redis"].as_str().unwrap()).unwrap();
    assert_eq!((redis.host_str(), redis.port().unwrap_or(6379)), (Some("redis"), 6379));
    // Redis forgets what is nearest to its end rather than refuse: every entry has one.
    let command = strings(&services["redis"]["command"]).join(" ");
    assert!(command.contains("--maxmemory-policy volatile-ttl"), "{command}");

    let bucket = url::Url::parse(shown["blob"]["s3"].as_str().unwrap()).unwrap();
    let endpoint = url::Url::parse(shown["s3"]["endpoint"].as_str().unwrap()).unwrap();
    let (s3, started) = (&services["s3"], strings(&services["s3"]["entrypoint"]).join(" "));
    assert!(started.contains(&format!("mkdir -p /objects/{} ", bucket.host_str().unwrap())), "{started}");
    assert_eq!(endpoint.host_str(), Some("s3"));
    assert!(started.contains(&format!("--port :{} --health /health ", endpoint.port().unwrap())), "{started}");
    let healthy = strings(&s3["healthcheck"]["test"]).join(" ");
    assert!(healthy.contains(&format!(":{}/health", endpoint.port().unwrap())), "{healthy}");
    for (theirs, ours) in [("ROOT_ACCESS_KEY", "AWS_ACCESS_KEY_ID"), ("ROOT_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")] {
        assert_eq!(get(&environment(s3), theirs), get(&environment(of), ours));
    }
}

#[test]
fn the_commands_are_ours_and_the_port_is_one() {
    let compose = compose();
    let of = &compose["services"]["tidemill"];
    let command = strings(&of["command"]);
    Cli::try_parse_from(["tidemill"].into_iter().chain(command.iter().map(String::as_str))).unwrap();
    let dockerfile = text("Dockerfile");
    let cmd = dockerfile.lines().find_map(|l| l.strip_prefix("CMD ")).unwrap();
    assert_eq!(serde_json::from_str::<Vec<String>>(cmd).unwrap(), command);
    // What the head of the file says to type.
    for line in text("docker-compose.yml").lines().filter_map(|l| l.split_once("exec tidemill ").map(|(_, c)| c)) {
        Cli::try_parse_from(line.split_whitespace()).unwrap();
    }
    let port = "9464";
    assert!(command.contains(&format!("0.0.0.0:{port}")));
    assert!(text("docs/operations.md").contains(&format!("127.0.0.1:{port} unless said otherwise")));
    assert!(dockerfile.contains(&format!("EXPOSE {port}")));
    let healthy = strings(&of["healthcheck"]["test"]).join(" ");
    assert!(healthy.contains(&format!("/127.0.0.1/{port}")) && healthy.contains("GET /ready "), "{healthy}");
    let scraped = &yaml("deploy/prometheus/prometheus.yml")["scrape_configs"][0]["dns_sd_configs"][0];
    assert_eq!((&scraped["names"][0], scraped["port"].to_string()), (&"tidemill".into(), port.to_owned()));
}

#[test]
fn what_is_waited_for_has_a_health_check_and_what_is_mounted_exists() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        for (on, how) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(on), "{name} waits for {on}");
            assert_eq!(how["condition"], "service_healthy");
            assert!(services[on]["healthcheck"].is_object(), "{name} waits for {on}, which has no health check");
        }
        for volume in strings(&service["volumes"]) {
            let from = volume.split(':').next().unwrap();
            match from.strip_prefix("./") {
                Some(path) => assert!(root().join(path).is_dir(), "{name} mounts {path}"),
                None => assert!(compose["volumes"].get(from).is_some(), "{name} mounts {from}"),
            }
        }
        // Without passwords, so for this machine alone.
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} answers everybody on {port}");
        }
    }
}

#[test]
fn grafana_finds_its_source_and_its_dashboard() {
    let source = &yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    assert_eq!(source["url"], "http://prometheus:9090");
    let folder = &yaml("deploy/grafana/provisioning/dashboards/tidemill.yml")["providers"][0]["options"]["path"];
    let file =
        get(&environment(&compose()["services"]["grafana"]), "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH").to_owned();
    let name = file.strip_prefix(folder.as_str().unwrap()).unwrap();
    let dashboard: Value = serde_json::from_str(&text(&format!("deploy/grafana/dashboards{name}"))).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 10);
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], source["uid"], "{}", panel["title"]);
        }
    }
}
