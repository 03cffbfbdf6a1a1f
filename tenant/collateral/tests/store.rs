// SPDX-License-Identifier: Apache-2.0

//! The store and its filling, with genuine certificates from the folder of vectors beside the repository and our own
//! network.

#[macro_use]
extern crate enarx_harness;

use enarx_attestation::snp::EndorsementId;
use enarx_attestation::vouch::VouchError;
use enarx_attestation::{Expected, Overall, Policy, Timestamp, Verifier};
use enarx_collateral::{
    FetchError, Fetcher, Http, HttpError, Refusal, Response, Store, StoreError, Unnamed,
};
use enarx_harness::needs::{cases, vectors};
use enarx_snp::report::Report;
use enarx_snp::simulated::CHIP_PREFIX;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CASE: &str = "snp-milan-v3-vcek-05b7438a";
const NOW: Timestamp = Timestamp(1_790_000_000);

fn main() -> std::process::ExitCode {
    enarx_harness::main()
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

/// The files that are written for a file or folder in which nothing may be refused.
#[track_caller]
fn imported(store: &Store, path: &Path) -> Vec<PathBuf> {
    let imported = store.import_paths(&[path.to_owned()]).unwrap();
    assert_eq!(imported.refused, [], "{}", path.display());
    imported.written
}

/// Answers in turn, and records the requests.
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
    let vectors = vectors();
    let folder = Folder::new("import");
    let store = Store::new(&folder.0);
    for case in [
        CASE,
        "snp-turin-v5-vcek-85da705e",
        "snp-milan-v3-vlek-decdab94",
    ] {
        assert_eq!(imported(&store, &vectors.join(case)).len(), 3, "{case}");
        let report = fs::read(vectors.join(case).join("report.bin")).unwrap();
        let at = if case.contains("vlek") {
            Timestamp(1_736_460_861)
        } else {
            NOW
        };
        let verdict = Verifier::new(Policy::insecure_authenticity_only()).verify(
            &report,
            &store.endorsements(&report, at),
            &Expected::at(at),
        );
        assert_eq!(verdict.overall, Overall::Valid, "{case}\n{verdict}");
    }
    let unknown = store.import(b"nothing", Path::new("x"));
    assert!(
        matches!(
            &unknown,
            Err(StoreError::Refused { origin, why: Refusal::Unknown }) if origin == Path::new("x")
        ),
        "{unknown:?}"
    );
}

#[test]
fn a_chip_is_found_by_its_name_and_tcb_version() {
    let vectors = vectors();
    let folder = Folder::new("chip");
    let store = Store::new(&folder.0);
    assert!(store.keys().is_empty());
    for case in [
        CASE,
        "snp-turin-v5-vcek-85da705e",
        "snp-genoa-bergamo_siena-v5-vcek-7ea4daeb",
        "snp-milan-v3-vlek-decdab94",
    ] {
        let bytes = fs::read(vectors.join(case).join("report.bin")).unwrap();
        let report = Report::parse(&bytes).unwrap();
        let of_chip = || store.of_chip(&report.chip_id, report.reported_tcb, NOW);
        assert_eq!(of_chip(), None, "{case}");
        imported(&store, &vectors.join(case));
        assert_eq!(
            of_chip(),
            Some(store.endorsements(&bytes, NOW).amd),
            "{case}"
        );
        let mut other = report.reported_tcb;
        other.0[7] ^= 1;
        assert_eq!(store.of_chip(&report.chip_id, other, NOW), None, "{case}");
    }
    let keys = store.keys();
    let lines: Vec<_> = keys.iter().map(EndorsementId::line).collect();
    assert_eq!(lines, ["Milan", "Milan", "Genoa", "Turin"]);
    assert!(matches!(keys[1], EndorsementId::Vlek { .. }));
    // The list is from 2022, and nothing expired is served.
    imported(&store, &vectors.join("roots/amd-milan-crl-2022.der"));
    assert!(!store.has_lists("Milan", NOW));
    assert!(store.has_lists("Milan", Timestamp(1_670_000_000)));
    assert!(!store.has_lists("Genoa", Timestamp(1_670_000_000)));
}

#[test]
fn collateral_is_found_until_it_expires() {
    let vectors = vectors();
    let folder = Folder::new("collateral");
    let store = Store::new(&folder.0);
    let case = vectors.join("tdx-v4-b0c06f000000-3ab56d67");
    assert_eq!(imported(&store, &case.join("collateral.json")).len(), 1);
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
fn an_expired_revocation_list_is_returned_but_not_in_force() {
    let vectors = vectors();
    let folder = Folder::new("lists");
    let store = Store::new(&folder.0);
    imported(&store, &vectors.join("roots/amd-milan-ark.pem"));
    imported(&store, &vectors.join("roots/amd-milan-crl-2022.der"));
    let report = fs::read(vectors.join(CASE).join("report.bin")).unwrap();
    for (at, in_force) in [(1_667_260_800, true), (1_700_000_000, false)] {
        let at = Timestamp(at);
        assert_eq!(store.endorsements(&report, at).amd.crls.len(), 1);
        assert_eq!(store.has_lists("Milan", at), in_force);
    }
}

#[test]
fn fetching_asks_for_what_is_missing_and_waits_when_told() {
    let vectors = vectors();
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

    // Now everything is present; later only the list is stale.
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
fn a_service_that_keeps_refusing_is_given_up() {
    let vectors = vectors();
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
            matches!(error, FetchError::Http(HttpError::Status { .. })),
            "{error}"
        );
        assert_eq!(script.waited.len(), waits);
    }
}

#[test]
fn collateral_is_composed_of_the_answers() {
    let vectors = vectors();
    let folder = Folder::new("intel");
    let store = Store::new(&folder.0);
    let case = vectors.join("tdx-v4-b0c06f000000-3ab56d67");
    let quote = fs::read(case.join("quote.bin")).unwrap();
    let genuine: serde_json::Value =
        serde_json::from_slice(&fs::read(case.join("collateral.json")).unwrap()).unwrap();
    let text = |key: &str| genuine[key].as_str().unwrap().to_owned();
    let bytes = |key: &str| -> Vec<u8> {
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
            &bytes("pck_crl"),
        ),
        answer(200, &[], &bytes("root_ca_crl")),
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
    let verdict = Verifier::new(Policy::default()).verify(
        &quote,
        &store.endorsements(&quote, at),
        &Expected::at(at),
    );
    assert_eq!(verdict.overall, Overall::Valid, "{verdict}");
    assert!(
        Fetcher::new(&store, &mut script)
            .fetch(&quote, at)
            .unwrap()
            .is_empty()
    );
}

/// The store's files for the root and the lists of Milan.
const ROOT: &str = "kdsintf.amd.com/vcek/v1/Milan/cert_chain/ark.der";
const LISTS: &str = "kdsintf.amd.com/vcek/v1/Milan/crl";

#[test]
fn material_not_from_the_vendor_replaces_nothing() {
    let (vectors, cases) = (vectors(), cases());
    let folder = Folder::new("fake");
    let store = Store::new(&folder.0);
    let refused = |path: PathBuf| {
        let imported = store.import_paths(&[path]).unwrap();
        assert!(imported.written.is_empty());
        let [(_, why)] = <[_; 1]>::try_from(imported.refused).unwrap();
        why
    };
    // Without the root, nothing can be said about a list or an intermediate.
    let list = vectors.join("roots/amd-milan-crl-2022.der");
    let no_root = Refusal::Unvouched(VouchError::IssuerMissing(EndorsementId::Ark {
        line: "Milan".to_owned(),
    }));
    assert_eq!(refused(list.clone()), no_root);
    let ask = vectors.join(CASE).join("ask.der");
    assert_eq!(refused(ask), no_root);

    imported(&store, &vectors.join(CASE));
    imported(&store, &list);
    let genuine = fs::read(folder.0.join(ROOT)).unwrap();
    let root = refused(cases.join("fakeark.der"));
    assert!(
        matches!(root, Refusal::Unvouched(VouchError::Root { .. })),
        "{root}"
    );
    assert_eq!(fs::read(folder.0.join(ROOT)).unwrap(), genuine);
    assert_eq!(
        refused(cases.join("fakecrl.crl")),
        Refusal::Unvouched(VouchError::NotSigned("the root ARK-Milan".to_owned()))
    );
    assert_eq!(fs::read_dir(folder.0.join(LISTS)).unwrap().count(), 1);
    // A genuine certificate, changed.
    let mut vek = fs::read(vectors.join(CASE).join("vek.der")).unwrap();
    let last = vek.len() - 1;
    vek[last] ^= 1;
    let error = store.import(&vek, Path::new("x")).unwrap_err().to_string();
    assert_eq!(error, "x: it is not signed by the intermediate SEV-Milan");
    let wrong = vectors.join("neg-milan-v3-vcek-05b7438a-vektamper");
    let imported = store.import_paths(&[wrong]).unwrap();
    assert_eq!((imported.written.len(), imported.refused.len()), (2, 1));
    // From a simulator, and nothing at all.
    assert_eq!(
        refused(cases.join("s_delta/ark.der")),
        Refusal::Unvouched(VouchError::Simulated)
    );
    assert_eq!(refused(cases.join("app.wasm")), Refusal::Unknown);
    // The reports of Milan are verified as before.
    let report = fs::read(vectors.join(CASE).join("report.bin")).unwrap();
    let endorsements = store.endorsements(&report, NOW);
    let verdict = Verifier::new(Policy::insecure_authenticity_only()).verify(
        &report,
        &endorsements,
        &Expected::at(NOW),
    );
    assert_eq!(verdict.overall, Overall::Valid, "{verdict}");
}

#[test]
fn collateral_that_is_not_intels_is_not_kept() {
    let vectors = vectors();
    let folder = Folder::new("fake-collateral");
    let store = Store::new(&folder.0);
    let case = vectors.join("tdx-v4-b0c06f000000-3ab56d67/collateral.json");
    let genuine: serde_json::Value = serde_json::from_slice(&fs::read(case).unwrap()).unwrap();
    let with = |key: &str, change: &dyn Fn(&str) -> String| {
        let mut changed = genuine.clone();
        changed[key] = change(changed[key].as_str().unwrap()).into();
        store.import(changed.to_string().as_bytes(), Path::new("x"))
    };
    assert_eq!(with("tcb_info", &str::to_owned).unwrap().len(), 1);
    let flipped = |digits: &str| {
        let (head, last) = digits.split_at(digits.len() - 1);
        format!("{head}{}", if last == "0" { '1' } else { '0' })
    };
    let later = |info: &str| info.replace("nextUpdate\":\"2026", "nextUpdate\":\"2036");
    for (key, change) in [
        ("tcb_info", &later as &dyn Fn(&str) -> String),
        ("qe_identity", &later),
        ("tcb_info_signature", &flipped),
        ("qe_identity_signature", &flipped),
        ("root_ca_crl", &flipped),
        ("pck_crl", &flipped),
        ("tcb_info_issuer_chain", &|_| String::new()),
        ("pck_crl_issuer_chain", &|chain| chain.repeat(2)),
    ] {
        assert!(with(key, change).is_err(), "{key}");
    }
}

#[test]
fn stored_material_not_from_the_vendor_is_fetched_again() {
    let (vectors, cases) = (vectors(), cases());
    let folder = Folder::new("poisoned");
    let store = Store::new(&folder.0);
    let read = |path: &str| fs::read(vectors.join(path)).unwrap();
    let report = read(&format!("{CASE}/report.bin"));
    imported(&store, &vectors.join(CASE));
    // From an attacker who can write to the store: their own root, and a list until 2036.
    fs::create_dir_all(folder.0.join(LISTS)).unwrap();
    fs::copy(cases.join("fakeark.der"), folder.0.join(ROOT)).unwrap();
    fs::copy(
        cases.join("fakecrl.crl"),
        folder.0.join(LISTS).join("ark-2090000000.crl"),
    )
    .unwrap();
    let at = Timestamp(1_667_260_800);
    assert_eq!(store.endorsements(&report, at).amd.crls.len(), 0);
    let mut script = authorities(&vectors);
    let written = Fetcher::new(&store, &mut script)
        .fetch(&report, at)
        .unwrap();
    assert_eq!(written.len(), 3, "{written:?}");
    assert_eq!(store.endorsements(&report, at).amd.crls.len(), 1);
    // The answer of the service is checked as well, and the address is named.
    fs::remove_dir_all(folder.0.join(LISTS)).unwrap();
    let mut script = Script {
        answers: VecDeque::from([answer(
            200,
            &[],
            &fs::read(cases.join("fakecrl.crl")).unwrap(),
        )]),
        ..Script::default()
    };
    let error = Fetcher::new(&store, &mut script)
        .fetch(&report, at)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "https://kdsintf.amd.com/vcek/v1/Milan/crl: it is not signed by the root ARK-Milan"
    );
}

#[test]
fn revocation_lists_are_fetched_again_after_a_day() {
    let vectors = vectors();
    let folder = Folder::new("day");
    let store = Store::new(&folder.0);
    let report = fs::read(vectors.join(CASE).join("report.bin")).unwrap();
    imported(&store, &vectors.join(CASE));
    let list = vectors.join("roots/amd-milan-crl-2022.der");
    let [file] = <[PathBuf; 1]>::try_from(imported(&store, &list)).unwrap();
    let at = 1_667_260_800;
    let written = |seconds_before: u64| {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(at - seconds_before);
        let file = fs::File::options()
            .write(true)
            .open(folder.0.join(&file))
            .unwrap();
        file.set_modified(time).unwrap();
    };
    let asked = || {
        let mut script = Script {
            answers: VecDeque::from([answer(200, &[], &fs::read(&list).unwrap())]),
            ..Script::default()
        };
        Fetcher::new(&store, &mut script)
            .fetch(&report, Timestamp(at))
            .unwrap();
        script.asked.len()
    };
    written(86_399);
    assert_eq!(asked(), 0);
    written(86_400);
    assert_eq!(asked(), 1);
    // Fetched just now, although it is the same list.
    assert_eq!(asked(), 0);
}

/// A vendor's answers about root and intermediate of Milan, and then about its list.
fn authorities(vectors: &Path) -> Script {
    let read = |path: &str| fs::read(vectors.join(path)).unwrap();
    let chain = [
        read("roots/amd-milan-ask.pem"),
        read("roots/amd-milan-ark.pem"),
    ];
    Script {
        answers: VecDeque::from([
            answer(200, &[], &chain.concat()),
            answer(200, &[], &read("roots/amd-milan-crl-2022.der")),
        ]),
        ..Script::default()
    }
}

#[test]
fn lists_are_fetched_without_the_certificate_of_a_key() {
    let vectors = vectors();
    let folder = Folder::new("lists-alone");
    let store = Store::new(&folder.0);
    let read = |path: &str| fs::read(vectors.join(path)).unwrap();
    let mut script = authorities(&vectors);
    let at = Timestamp(1_667_260_800);
    let report = read(&format!("{CASE}/report.bin"));
    // The second time all is from today; a provider's key (VLEK) of the same line has the same lists, and another intermediate.
    for (written, asked) in [(3, 2), (0, 2)] {
        let mut fetcher = Fetcher::new(&store, &mut script);
        assert_eq!(fetcher.fetch_lists(&report, at).unwrap().len(), written);
        assert_eq!(script.asked.len(), asked);
    }
    assert!(script.asked.iter().all(|url| !url.contains("SPL")));
    let of_provider = read("snp-milan-v3-vlek-decdab94/report.bin");
    let answers = [
        read("roots/amd-milan-asvk.pem"),
        read("roots/amd-milan-ark.pem"),
    ];
    script
        .answers
        .push_back(answer(200, &[], &answers.concat()));
    let mut fetcher = Fetcher::new(&store, &mut script);
    fetcher.fetch_lists(&of_provider, at).unwrap();
    assert_eq!(
        script.asked.last().map(String::as_str),
        Some("https://kdsintf.amd.com/vlek/v1/Milan/cert_chain")
    );
    // A service that does not answer, and a file that is not a report.
    let mut silent = Script::default();
    let mut fetcher = Fetcher::new(&store, &mut silent);
    assert!(matches!(
        fetcher.fetch_lists(&report, NOW),
        Err(FetchError::Http(_))
    ));
    assert!(fetcher.fetch_lists(b"no report", NOW).is_err());
}

#[test]
fn no_service_is_asked_about_a_simulated_chip() {
    let folder = Folder::new("simulated");
    let store = Store::new(&folder.0);
    let mut report = fs::read(vectors().join(CASE).join("report.bin")).unwrap();
    // CHIP_ID (56860 ATTESTATION_REPORT).
    report[0x1A0..][..CHIP_PREFIX.len()].copy_from_slice(CHIP_PREFIX);
    let mut script = Script::default();
    let mut fetcher = Fetcher::new(&store, &mut script);
    for error in [
        fetcher.fetch(&report, NOW),
        fetcher.fetch_lists(&report, NOW),
    ] {
        assert!(
            matches!(error, Err(FetchError::Unnamed(Unnamed::Simulated))),
            "{error:?}"
        );
    }
    assert_eq!(script.asked, [""; 0]);
}
