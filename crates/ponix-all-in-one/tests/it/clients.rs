//! The programs of `docs/clients.md`, run as they stand there, and clients that are generated.

use std::path::Path;
use std::process::Stdio;

use ponix_stack::Postgres;
use tokio::process::Command;

use crate::support::World;

/// Languages of blocks that are run, with the program and the name of the file.
const LANGUAGES: [(&str, &[&str], &str); 4] = [
    ("sh", &["bash"], "client.sh"),
    ("python", &["python3"], "client.py"),
    ("js", &["node"], "client.cjs"),
    ("go", &["go", "run"], "client.go"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_of_the_page_send_an_event_each() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/clients.md");
    let page = std::fs::read_to_string(page).unwrap();
    let world = World::new("clients").await;
    let service = world.service().start_ready().await;
    let here = format!("http://{}", service.api_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut events = 0;
    for (language, command, name) in LANGUAGES {
        let (_, block) = page
            .split_once(&format!("```{language}\n"))
            .expect(language);
        let (program, _) = block.split_once("\n```").unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, program.replace("http://127.0.0.1:8080", &here)).unwrap();
        let ran = Command::new(command[0])
            .args(&command[1..])
            .arg(&file)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .output()
            .await;
        match ran {
            Ok(output) => {
                assert!(output.status.success(), "{language}: {output:?}");
                events += 1;
            }
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped {language}: there is no {} here", command[0]);
            }
            Err(err) => panic!("{language}: {err}"),
        }
    }
    assert!(events > 0, "none of the programs is here");
    world.stored(events).await;
    service.stop().await;
}

/// Only where `scripts/test-clients --setup` has brought the generators.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_generated_from_the_description_are_served() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if !root.join(".ponix/clients/done").exists() {
        println!("skipped: there are no generators here (scripts/test-clients --setup)");
        return;
    }
    let world = World::with_own_nats("generated_clients").await;
    let postgres = Postgres::start().await.unwrap();
    let service = world
        .service()
        .env("PONIX_POSTGRES_URL", postgres.url())
        .env("PONIX_ENTITIES_DIR", root.join("examples/tpch").display())
        .start_ready()
        .await;
    let url = format!("http://{}", service.api_addr().unwrap());
    let output = Command::new(root.join("scripts/test-clients"))
        .arg(&url)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    for client in ["python", "typescript", "go"] {
        assert!(said.contains(&format!("{client}: done")), "{said}");
    }
    let has_browser = ["browser: done", "browser: skipped"];
    assert!(has_browser.iter().any(|it| said.contains(it)), "{said}");
    println!("{said}");
    // Four of Python, one of Go, one and two lines of TypeScript, and what the browser sends: one and two lines.
    let of_browser = 3 * u64::from(said.contains("browser: done"));
    world.stored(8 + of_browser).await;
    service.stop().await;
}
