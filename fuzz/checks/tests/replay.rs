//! The corpus of the fuzz targets, through the same checks, on a stable compiler and in every `make test`. Among the seeds are all
//! inputs that were ever findings.
use hearth_fuzz_checks::ALL;
use std::{fs, path::PathBuf};

/// What all seeds may take together: they are read by people too.
const CORPUS_BYTES: u64 = 200 * 1024;

#[test]
fn every_seed_passes_its_check() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut bytes = 0;
    for (name, check) in ALL {
        let mut seeds = 0;
        for seed in fs::read_dir(corpus.join(name)).unwrap() {
            let path = seed.unwrap().path();
            let data = fs::read(&path).unwrap();
            // The test's output tells which seed it was if this panics.
            println!("{}", path.display());
            check(&data);
            seeds += 1;
            bytes += data.len() as u64;
        }
        assert!(seeds >= 5, "{name} has {seeds} seeds");
    }
    assert!(bytes <= CORPUS_BYTES, "{bytes} bytes of seeds");
    let folders = fs::read_dir(&corpus).unwrap().count();
    assert_eq!(folders, ALL.len(), "every folder has its check");
}

#[test]
fn every_check_has_its_target() {
    let targets = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
    let mut names: Vec<String> =
        fs::read_dir(targets).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected: Vec<String> = ALL.iter().map(|(name, _)| format!("{name}.rs")).collect();
    assert_eq!(names, expected);
}
