//! The store and its filling, with genuine certificates from the folder of vectors beside the repository and a network
//! of our own. Skipped with a message where that folder is absent, unless `ENARX_REQUIRE_VECTORS=1`.
#![allow(clippy::print_stderr, reason = "a test says what it leaves out")]

use enarx_attestation::{Overall, Policy, Timestamp, Verifier};
use enarx_collateral::{FetchError, Fetcher, Http, HttpError, Response, Store};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CASE: &str = "snp-milan-v3-vcek-05b7438a";
const NOW: Timestamp = Timestamp(1_790_000_000);

fn vectors() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    if path.is_dir() {
        return Some(path);
    }
    let required = std::env::var_os("ENARX_REQUIRE_VECTORS").is_some_and(|v| v == "1");
    assert!(
        !required,
        "ENARX_REQUIRE_VECTORS=1, but there are no vectors"
    );
    eprintln!("skipped: no vectors at {}", path.display());
    None
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("enarx-store-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Answers in turn, and what was asked for.
#[derive(Default)]
struct Script {
    answers: VecDeque<Response>,
    asked: Vec<String>,
    waited: Vec<u64>,
}

impl Http for &mut Script {
    fn get(&mut self, url: &str) -> Result<Response, HttpError> {
        self.asked.push(url.to_owned());
        self.answers
            .pop_front()
            .ok_or_else(|| HttpError::Transport {
                url: url.to_owned(),
                cause: "no answer".to_owned(),
            })
    }

    fn wait(&mut self, time: Duration) {
        self.waited.push(time.as_secs());
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let headers = headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    Response {
        status,
        headers,
        body: body.to_vec(),
    }
}

#[test]
fn imported_certificates_are_found_for_their_report() {
    let Some(vectors) = vectors() else { return };
    let folder = Folder::new("import");
    let store = Store::new(&folder.0);
    for case in [
        CASE,
        "snp-turin-v5-vcek-85da705e",
        "snp-milan-v3-vlek-decdab94",
    ] {
        assert_eq!(
            store.import_path(&vectors.join(case)).unwrap().len(),
            3,
            "{case}"
        );
        let report = fs::read(vectors.join(case).join("report.bin")).unwrap();
        let at = if case.contains("vlek") {
            Timestamp(1_736_460_861)
        } else {
            NOW
        };
        let verdict = Verifier::new(Policy::insecure_authenticity_only()).verify(
            &report,
            &store.endorsements(&report, at),
            at,
        );
        assert_eq!(verdict.overall, Overall::Valid, "{case}\n{verdict}");
    }
    let unknown = store.import(b"nothing", Path::new("x"));
    assert!(unknown.unwrap_err().to_string().starts_with("x: neither"));
}

#[test]
fn collateral_is_found_until_it_expires() {
    let Some(vectors) = vectors() else { return };
    let folder = Folder::new("collateral");
    let store = Store::new(&folder.0);
    let case = vectors.join("tdx-v4-b0c06f000000-3ab56d67");
    assert_eq!(
        store
            .import_path(&case.join("collateral.json"))
            .unwrap()
            .len(),
        1
    );
    let quote = fs::read(case.join("quote.bin")).unwrap();
    assert!(
        store
            .endorsements(&quote, Timestamp(1_774_897_771))
            .intel
            .is_some()
    );
    assert!(
        store
            .endorsements(&quote, Timestamp(1_775_245_003))
            .intel
            .is_none()
    );
}

#[test]
fn revocation_lists_are_not_served_past_their_next_update() {
    let Some(vectors) = vectors() else { return };
    let folder = Folder::new("lists");
    let store = Store::new(&folder.0);
    store
        .import_path(&vectors.join("roots/amd-milan-crl-2022.der"))
        .unwrap();
    let report = fs::read(vectors.join(CASE).join("report.bin")).unwrap();
    let lists = |at| store.endorsements(&report, Timestamp(at)).amd.crls.len();
    assert_eq!(lists(1_667_260_800), 1);
    assert_eq!(lists(1_700_000_000), 0);
}

#[test]
fn fetching_asks_for_what_is_missing_and_waits_when_told() {
    let Some(vectors) = vectors() else { return };
    let folder = Folder::new("fetch");
    let store = Store::new(&folder.0);
    let read = |path: &str| fs::read(vectors.join(path)).unwrap();
    let report = read(&format!("{CASE}/report.bin"));
    let chain = [
        read("roots/amd-milan-ask.pem"),
        read("roots/amd-milan-ark.pem"),
    ]
    .concat();
    let answers = VecDeque::from([
        answer(429, &[("retry-after", "7")], b""),
        answer(503, &[], b""),
        answer(200, &[], &chain),
        answer(200, &[], &read("roots/amd-milan-crl-2022.der")),
        answer(200, &[], &read(&format!("{CASE}/vek.der"))),
    ]);
    let mut script = Script {
        answers,
        ..Script::default()
    };
    let at = Timestamp(1_667_260_800);
    let written = Fetcher::new(&store, &mut script)
        .fetch(&report, at)
        .unwrap();
    assert_eq!(written.len(), 4, "{written:?}");
    assert_eq!(script.waited, [7, 20]);
    assert_eq!(
        script.asked[2],
        "https://kdsintf.amd.com/vcek/v1/Milan/cert_chain"
    );
    assert_eq!(script.asked[3], "https://kdsintf.amd.com/vcek/v1/Milan/crl");
    assert!(script.asked[4].starts_with("https://kdsintf.amd.com/vcek/v1/Milan/66a5a7b4403a3006"));
    assert!(script.asked[4].ends_with("?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"));

    // All is there now; later only the list is stale.
    let mut idle = Script::default();
    assert_eq!(
        Fetcher::new(&store, &mut idle)
            .fetch(&report, at)
            .unwrap()
            .len(),
        0
    );
    assert!(idle.asked.is_empty());
    let error = Fetcher::new(&store, &mut idle)
        .fetch(&report, NOW)
        .unwrap_err();
    assert!(matches!(error, FetchError::Http(_)));
    assert_eq!(idle.asked, ["https://kdsintf.amd.com/vcek/v1/Milan/crl"]);
}

#[test]
fn a_service_that_keeps_refusing_is_given_up_on() {
    let Some(vectors) = vectors() else { return };
    let folder = Folder::new("refusal");
    let store = Store::new(&folder.0);
    let report = fs::read(vectors.join(CASE).join("report.bin")).unwrap();
    for (answers, waits) in [
        (vec![answer(404, &[], b"")], 0),
        (vec![answer(429, &[("retry-after", "3600")], b"")], 0),
        (vec![answer(429, &[], b""); 4], 3),
    ] {
        let mut script = Script {
            answers: answers.into(),
            ..Script::default()
        };
        let error = Fetcher::new(&store, &mut script)
            .fetch(&report, NOW)
            .unwrap_err();
        assert!(
            error.to_string().contains("the service answered"),
            "{error}"
        );
        assert_eq!(script.waited.len(), waits);
    }
}

#[test]
fn collateral_is_composed_of_the_answers() {
    let Some(vectors) = vectors() else { return };
    let folder = Folder::new("intel");
    let store = Store::new(&folder.0);
    let case = vectors.join("tdx-v4-b0c06f000000-3ab56d67");
    let quote = fs::read(case.join("quote.bin")).unwrap();
    let genuine: serde_json::Value =
        serde_json::from_slice(&fs::read(case.join("collateral.json")).unwrap()).unwrap();
    let text = |key: &str| genuine[key].as_str().unwrap().to_owned();
    let octets = |key: &str| -> Vec<u8> {
        let digits = text(key);
        (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
            .collect()
    };
    let encoded = |key: &str| text(key).replace('\n', "%0A").replace(' ', "%20");
    let body = |member: &str, json: &str, signature: &str| {
        format!(
            "{{\"{member}\":{},\"signature\":\"{}\"}}",
            text(json),
            text(signature)
        )
        .into_bytes()
    };
    let answers = VecDeque::from([
        answer(
            200,
            &[("sgx-pck-crl-issuer-chain", &encoded("pck_crl_issuer_chain"))],
            &octets("pck_crl"),
        ),
        answer(200, &[], &octets("root_ca_crl")),
        answer(
            200,
            &[("tcb-info-issuer-chain", &encoded("tcb_info_issuer_chain"))],
            &body("tcbInfo", "tcb_info", "tcb_info_signature"),
        ),
        answer(
            200,
            &[(
                "sgx-enclave-identity-issuer-chain",
                &encoded("qe_identity_issuer_chain"),
            )],
            &body("enclaveIdentity", "qe_identity", "qe_identity_signature"),
        ),
    ]);
    let mut script = Script {
        answers,
        ..Script::default()
    };
    let at = Timestamp(1_774_897_771);
    assert_eq!(
        Fetcher::new(&store, &mut script)
            .fetch(&quote, at)
            .unwrap()
            .len(),
        1
    );
    assert!(script.asked[0].ends_with("/sgx/certification/v4/pckcrl?ca=platform&encoding=der"));
    assert!(script.asked[2].ends_with("/tdx/certification/v4/tcb?fmspc=b0c06f000000"));
    let verdict =
        Verifier::new(Policy::default()).verify(&quote, &store.endorsements(&quote, at), at);
    assert_eq!(verdict.overall, Overall::Valid, "{verdict}");
    assert!(
        Fetcher::new(&store, &mut script)
            .fetch(&quote, at)
            .unwrap()
            .is_empty()
    );
}
