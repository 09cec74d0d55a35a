//! Component, appup, release and relup manifests.
