//! A real browser, driven as WebDriver has it. By hand: a driver's crate would bring TLS, and a second crypto library with
//! it, to a connection that never leaves this machine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use highwater::testing::{Child, Error, Result, wait_until};
use serde_json::{Value, json};

use super::PATIENCE;
use super::needs::skipped_without;
use super::web::request;

/// Chromium, without a window.
pub(crate) struct Browser {
    _driver: Child,
    address: String,
    session: String,
}

impl Browser {
    /// Starts one; none where there is none, which is said.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
        if skipped_without("chromium with chromium-driver", there("chromedriver") && there("chromium")) {
            return Ok(None);
        }
        let mut command = Command::new("chromedriver");
        command.arg("--port=0");
        let driver = Child::spawn("chromedriver", &command)?;
        let line = driver.wait_for_line(|line| line.contains("successfully on port "), PATIENCE).await?;
        let port = line.split("on port ").nth(1).unwrap_or_default();
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        let address = format!("127.0.0.1:{port}");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let started = request(&address, "POST", "/session", &[], Some(&wanted)).await?.json();
        let session = started["value"]["sessionId"].as_str().map(str::to_owned);
        let session = session.ok_or_else(|| Error::new(format!("no browser has started: {started}")))?;
        Ok(Some(Self { _driver: driver, address, session: format!("/session/{session}") }))
    }

    async fn tell(&self, method: &str, what: &str, body: Option<Value>) -> Result<Value> {
        let path = format!("{}{what}", self.session);
        let answer = request(&self.address, method, &path, &[], body.as_ref()).await?;
        let mut value = answer.json();
        if answer.status != 200 {
            return Err(Error::new(format!(
                "the browser refuses {method} {what}: {}",
                value["value"]["message"]
            )));
        }
        Ok(value["value"].take())
    }

    /// Opens an address.
    pub(crate) async fn open(&self, url: &str) -> Result<()> {
        self.tell("POST", "/url", Some(json!({ "url": url }))).await.map(drop)
    }

    /// The body of a function; what it returns.
    pub(crate) async fn run(&self, script: &str, arguments: &[Value]) -> Result<Value> {
        self.tell("POST", "/execute/sync", Some(json!({"script": script, "args": arguments}))).await
    }

    /// The same, for what answers later: by calling its last argument.
    pub(crate) async fn run_later(&self, script: &str) -> Result<Value> {
        self.tell("POST", "/timeouts", Some(json!({"script": 60_000}))).await?;
        self.tell("POST", "/execute/async", Some(json!({"script": script, "args": []}))).await
    }

    /// Waits until an expression is true; returns its value.
    pub(crate) async fn until(&self, what: &str, expression: &str) -> Result<Value> {
        let script = format!("return {expression}");
        wait_until(what, PATIENCE, async || {
            let value = self.run(&script, &[]).await?;
            Ok((!matches!(&value, Value::Null | Value::Bool(false))).then_some(value))
        })
        .await
    }

    /// The text of what a selector finds.
    pub(crate) async fn text(&self, selector: &str) -> Result<String> {
        let script = "const found = document.querySelector(arguments[0]); return found && found.innerText";
        let text = self.run(script, &[json!(selector)]).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Presses keys, wherever the focus is: WebDriver's own characters for those that write nothing.
    pub(crate) async fn press(&self, keys: &[char]) -> Result<()> {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| {
                [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
            })
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.tell("POST", "/actions", Some(actions)).await.map(drop)
    }

    /// Clicks what a selector finds.
    pub(crate) async fn click(&self, selector: &str) -> Result<()> {
        let found =
            self.tell("POST", "/element", Some(json!({"using": "css selector", "value": selector}))).await?;
        let id = found.as_object().and_then(|element| element.values().next()?.as_str().map(str::to_owned));
        let id = id.ok_or_else(|| Error::new(format!("nothing is {selector}")))?;
        self.tell("POST", &format!("/element/{id}/click"), Some(json!({}))).await.map(drop)
    }

    /// Light or dark, and how large the window is.
    pub(crate) async fn look(&self, scheme: &str, width: u32, height: u32) -> Result<()> {
        // Nothing fades: half-way between two colours neither the old text nor the new one has any contrast.
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.command("Emulation.setEmulatedMedia", json!({"features": features})).await?;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", size).await
    }

    async fn command(&self, name: &str, parameters: Value) -> Result<()> {
        let command = json!({"cmd": name, "params": parameters});
        self.tell("POST", "/goog/cdp/execute", Some(command)).await.map(drop)
    }

    /// A picture of the whole page, however long it is.
    pub(crate) async fn picture(&self, scheme: &str, width: u32, file: &Path) -> Result<()> {
        self.look(scheme, width, 800).await?;
        tokio::time::sleep(Duration::from_millis(500)).await; // charts fit themselves into it
        let height = self.run("return document.documentElement.scrollHeight", &[]).await?.as_u64();
        let height = u32::try_from(height.unwrap_or(800)).unwrap_or(800).clamp(400, 6_000);
        self.look(scheme, width, height).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let picture = self.tell("GET", "/screenshot", None).await?;
        let picture = base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap_or_default());
        let picture = picture.map_err(|error| Error::caused("read a picture", error))?;
        std::fs::write(file, picture).map_err(|error| Error::caused("write a picture", error))
    }

    /// What its console says that is worse than talk: errors, and what the policy has stopped.
    pub(crate) async fn complaints(&self) -> Result<Vec<String>> {
        let log = self.tell("POST", "/se/log", Some(json!({"type": "browser"}))).await?;
        let entries = log.as_array().cloned().unwrap_or_default();
        let is_bad = |entry: &Value| {
            entry["level"] == "SEVERE" || entry["message"].to_string().contains("Content Security")
        };
        Ok(entries.iter().filter(|entry| is_bad(entry)).map(|entry| entry["message"].to_string()).collect())
    }

    /// What axe finds that is serious or worse, with the place.
    pub(crate) async fn axe(&self) -> Result<Vec<String>> {
        let axe = include_str!("../../axe/axe-4.14.1.min.js");
        self.run(&format!("{axe}; window.axe = axe;"), &[]).await?;
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations.map((violation) =>
                [violation.impact, violation.id, violation.nodes.slice(0, 3).map((node) => node.html + ' ' + node.failureSummary)])),
                (error) => done([['critical', 'axe', String(error)]]));";
        let found = self.run_later(script).await?;
        let found = found.as_array().cloned().unwrap_or_default();
        let is_serious = |violation: &&Value| violation[0] == "serious" || violation[0] == "critical";
        Ok(found.iter().filter(is_serious).map(ToString::to_string).collect())
    }

    pub(crate) async fn quit(self) -> Result<()> {
        self.tell("DELETE", "", None).await.map(drop)
    }
}
