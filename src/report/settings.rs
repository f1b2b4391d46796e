//! What a worker of this environment would be told, and which programs are what versions.

use super::Collection;
use crate::config::DoctorConfig;
use crate::migrate::{OLDEST_USABLE_VERSION, SCHEMA_VERSION};

pub(super) fn add(collection: &mut Collection, config: &DoctorConfig) {
    let versions = serde_json::json!({
        "highwater": env!("CARGO_PKG_VERSION"),
        "schema_known": SCHEMA_VERSION,
        "schema_oldest_usable": OLDEST_USABLE_VERSION,
        "librdkafka": rdkafka::util::get_rdkafka_version().1,
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "debug_assertions": cfg!(debug_assertions),
    });
    collection.json("versions.json", "this program, and what it was built with", Ok(versions));
    // `Debug` of the settings hides passwords, commands, and whatever may be a secret among Kafka's properties.
    let mut text = format!("{:#?}\n", config.worker);
    if let Some(contradiction) = &config.contradiction {
        text += &format!("\ncontradiction: {contradiction}\n");
    }
    collection.text(
        "settings.txt",
        "what a worker of this environment would be told; secrets are hidden",
        Ok(text),
    );
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("HIGHWATER_") || name.starts_with("RUST_"))
        .collect();
    names.sort();
    let names = names.join("\n") + "\n";
    collection.text("environment.txt", "the names of the variables that are set; no values", Ok(names));
}
