//! Places for new files.

use super::*;

/// The sticky bit protects existing files only.
#[test]
fn a_sticky_folder_raises_a_doubt_about_new_files() {
    let top = tempfile::tempdir().unwrap();
    let shared = make_folder(&top.path().join("shared"), 0o1777);
    let doubt = Some(Doubt::Mode { path: shared.clone(), mode: 0o1777, is_folder: true });
    assert_eq!(folder(&shared).unwrap(), doubt);
    assert!(doubt.as_ref().unwrap().to_string().contains("choose a folder of your own"));
    assert_eq!(place(&shared.join("file")).unwrap().doubt, doubt);
    let below = shared.join("below/deep");
    assert_eq!(make_folder_and_judge(&below), None, "an own folder in a sticky folder raises no doubt");
    assert_eq!(below.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    set(&shared, 0o777);
    assert!(make_folder_and_judge(&shared.join("another/deep")).is_some());
    assert!(!shared.join("another").exists(), "no folder is created where it would not be used");
}

fn make_folder_and_judge(path: &Path) -> Option<Doubt> {
    crate::make_folder(path).unwrap()
}

#[test]
fn place_resolves_all_links_and_checks_each_one() {
    let top = tempfile::tempdir().unwrap();
    let safe = make_folder(&top.path().join("safe"), 0o700);
    let open = make_folder(&top.path().join("open"), 0o777);
    let plain = place(&safe.join("new")).unwrap();
    assert_eq!((plain.path, plain.is_linked, plain.doubt), (safe.join("new"), false, None));
    symlink("safe/target", top.path().join("first")).unwrap();
    symlink("first", top.path().join("second")).unwrap();
    for _ in 0..2 {
        let linked = place(&top.path().join("second")).unwrap();
        assert_eq!((linked.path, linked.is_linked, linked.doubt), (safe.join("target"), true, None));
        // The place is the same with and without the target.
        make_file(&safe.join("target"), "", 0o600);
    }
    symlink("safe", top.path().join("folder")).unwrap();
    assert!(
        !place(&top.path().join("folder/new")).unwrap().is_linked,
        "the folder is a link, the file is not"
    );
    symlink(&safe, open.join("away")).unwrap();
    symlink(open.join("target"), safe.join("out")).unwrap();
    for way in [open.join("away/file"), safe.join("out")] {
        assert!(
            matches!(place(&way).unwrap().doubt, Some(Doubt::Mode { path, .. }) if path == open),
            "{way:?}"
        );
    }
    symlink("ring", top.path().join("ring")).unwrap();
    assert!(place(&top.path().join("ring")).is_err());
}
