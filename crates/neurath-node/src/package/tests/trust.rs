//! Signatures, sequence numbers and epochs; ours and those of the stock command.

use super::*;

#[test]
fn signatures_are_checked_before_anything_else() {
    let place = Place::new();
    let statement = place.packed();
    let other = key();
    let admit = |trusted: TrustedKeys| {
        move |seal: &Seal| {
            let release = seal.statement().release();
            trusted.check(&release, Some(seal)).map(drop)
        }
    };
    let file = place.file();
    // No key trusts nobody in particular; of several, one suffices.
    unpack_if(&file, &place.to(), admit(trusting(&[]))).unwrap();
    let both = [("a", &other), ("b", &place.key)];
    unpack_if(&file, &place.to(), admit(trusting(&both))).unwrap();
    let unpacked = unpack(&file, &place.to()).unwrap();
    let signer_of = trusting(&both).check(&statement.release(), Some(&unpacked.seal));
    assert_eq!(signer_of.unwrap(), Some("b".to_owned()));
    fs::remove_dir_all(place.to()).unwrap();
    let error = unpack_if(&file, &place.to(), admit(trusting(&[("a", &other)]))).unwrap_err();
    assert!(
        matches!(error, PackageError::Trust(TrustError::NotTrusted { .. })),
        "{error}"
    );
    assert!(!place.to().exists());
    // Somebody else's statement under our signature.
    edited(&place, |all| {
        let text = String::from_utf8(all[0].1.clone()).unwrap();
        all[0] = entry(
            STATEMENT,
            text.replace("\"sequence\": 7", "\"sequence\": 8")
                .as_bytes(),
        );
    });
    let trusted = || trusting(&[("b", &place.key)]);
    let error = unpack_if(&file, &place.to(), admit(trusted())).unwrap_err();
    assert!(matches!(
        error,
        PackageError::Trust(TrustError::NotTrusted { .. })
    ));
    edited(&place, |all| drop(all.remove(1)));
    let error = unpack_if(&file, &place.to(), admit(trusted())).unwrap_err();
    assert!(matches!(
        error,
        PackageError::Trust(TrustError::Unsigned { .. })
    ));
    edited(&place, |all| all[1] = entry(SIGNATURE, b"no signature"));
    let error = unpack_if(&file, &place.to(), admit(trusted())).unwrap_err();
    assert!(matches!(
        error,
        PackageError::Trust(TrustError::Unreadable { .. })
    ));
    assert!(!place.to().exists());
}

#[test]
fn a_bad_key_beside_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new();
    place.packed();
    let unpacked = unpack(&place.file(), &place.to()).unwrap();
    let release = unpacked.release.id();
    assert!(
        !TrustedKeys::read(&folder.path().join("none"))
            .unwrap()
            .are_configured()
    );
    fs::write(folder.path().join("README"), "no key").unwrap();
    assert!(!TrustedKeys::read(folder.path()).unwrap().are_configured());
    fs::write(folder.path().join("bad.pub"), "no key").unwrap();
    let bad = TrustedKeys::read(folder.path()).unwrap();
    // A spoilt key does not open the door.
    assert!(bad.are_configured() && bad.names().is_empty());
    assert!(bad.check(&release, Some(&unpacked.seal)).is_err());
    assert!(bad.check(&release, None).is_err());
    let text = place.key.pk.to_box().unwrap().into_string();
    fs::write(folder.path().join("good.pub"), text).unwrap();
    let keys = TrustedKeys::read(folder.path()).unwrap();
    assert_eq!(keys.names(), ["good"]);
    assert_eq!(keys.unreadable().keys().collect::<Vec<_>>(), ["bad"]);
    let signed = keys.check(&release, Some(&unpacked.seal)).unwrap();
    assert_eq!(signed.as_deref(), Some("good"));
}

#[test]
fn numbers_only_grow() {
    let place = Place::new();
    place.packed();
    let seal = unpack(&place.file(), &place.to()).unwrap().seal;
    let seen = |sequence, epoch, manifest: &str| Seen {
        sequence,
        epoch,
        manifest: manifest.to_owned(),
    };
    let own = seal.statement().manifest.clone();
    let allowed = [None, Some(seen(6, 0, "another")), Some(seen(7, 2, &own))];
    for known in &allowed {
        check_numbers(&seal, known.as_ref(), false).unwrap();
    }
    let same = check_numbers(&seal, Some(&seen(7, 0, "another")), true);
    assert!(matches!(same, Err(TrustError::Twice { .. })));
    let older = seen(8, 2, "another");
    let refused = check_numbers(&seal, Some(&older), false);
    assert!(matches!(refused, Err(TrustError::Sequence { seen: 8, .. })));
    check_numbers(&seal, Some(&older), true).unwrap();
    // No downgrade crosses the floor, whatever is allowed.
    let floor = seen(6, 3, "another");
    let refused = check_numbers(&seal, Some(&floor), true);
    assert!(matches!(refused, Err(TrustError::Epoch { floor: 3, .. })));
    let release = ReleaseId::new("kv", "1.0.0");
    assert!(check_epoch(&release, None, Some(&floor)).is_err());
    check_epoch(&release, None, Some(&seen(9, 0, &own))).unwrap();
}

/// The package of the fixture, signed by the stock command `minisign` 0.11 in place of our own.
#[test]
fn a_signature_of_the_stock_command_is_taken() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let stock = fixtures.join("minisign-0.11");
    let signature = fs::read(stock.join("PACKAGE.json.minisig")).unwrap();
    let place = Place::new();
    fs::copy(
        fixtures.join("package-1/kv-1.1.0.neurath.tar.gz"),
        place.file(),
    )
    .unwrap();
    let keys = TrustedKeys::read(&stock).unwrap();
    let admit = |seal: &Seal| {
        let signer = keys.check(&seal.statement().release(), Some(seal))?;
        assert_eq!(signer.as_deref(), Some("key"));
        Ok(())
    };
    // Our own key's signature is none of a key that is trusted.
    unpack_if(&place.file(), &place.to(), admit).expect_err("signed by another key");
    let sign = |bytes: &[u8]| {
        edited(&place, |entries| {
            let at = entries.iter().position(|one| name(one) == SIGNATURE);
            entries[at.unwrap()] = entry(SIGNATURE, bytes);
        });
    };
    sign(&signature);
    let unpacked = unpack_if(&place.file(), &place.to(), admit).unwrap();
    assert_eq!(unpacked.release.id(), ReleaseId::new("kv", "1.1.0"));
    // Changed in its trusted comment, it is refused.
    let text = String::from_utf8(signature).unwrap();
    let other = text.replace(
        "signed by the stock command",
        "signed by the stock commando",
    );
    assert_ne!(other, text);
    sign(other.as_bytes());
    unpack_if(&place.file(), &place.to(), admit).expect_err("its comment was changed");
}

/// The stock command, where it is installed, verifies what we sign.
#[test]
fn the_stock_command_verifies_our_signatures() {
    let minisign = || std::process::Command::new("minisign");
    if minisign().arg("-v").output().is_err() {
        eprintln!("skipped: `minisign` is not installed (apt-get install minisign)");
        return;
    }
    let place = Place::new();
    place.packed();
    let folder = place.folder.path();
    for one in entries(&place.file()) {
        if [STATEMENT, SIGNATURE].contains(&&*name(&one)) {
            fs::write(folder.join(name(&one)), &one.1).unwrap();
        }
    }
    let key = place.key.pk.to_box().unwrap().into_string();
    fs::write(folder.join("ours.pub"), key).unwrap();
    let verified = || {
        let mut command = minisign();
        command.arg("-V").arg("-p").arg(folder.join("ours.pub"));
        command.arg("-m").arg(folder.join(STATEMENT));
        command.output().unwrap()
    };
    let output = verified();
    assert!(output.status.success(), "{output:?}");
    // And not what was changed.
    let mut statement = fs::read(folder.join(STATEMENT)).unwrap();
    statement[10] ^= 1;
    fs::write(folder.join(STATEMENT), statement).unwrap();
    assert!(!verified().status.success());
}
