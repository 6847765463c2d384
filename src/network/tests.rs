use super::*;

#[test]
fn names_that_would_act_elsewhere_are_refused() {
    let good = Network::new("vm-1a2b3c4d", vec![], Ports::All);
    assert!(good.check().is_ok());
    for bad in ["", "..", "a/b", "vm-1 ", "vm-1;", "vm-\n", "-vm", "Vm-1"] {
        assert!(Network { tap: bad.into(), ..good.clone() }.check().is_err(), "{bad:?}");
        assert!(Network { table: bad.into(), ..good.clone() }.check().is_err(), "{bad:?}");
    }
    assert!(Network { tap: "vm-1234567890123".into(), ..good }.check().is_err());
}

#[test]
fn resolvers_as_libc_reads_them() {
    let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.88.0.1\n\tnameserver\t127.0.0.11 # docker\n\
        nameserver fe80::1%eth0\nnameserver\nnameserver x\nnameserverx 1.2.3.4\noptions ndots:1";
    let want: Vec<IpAddr> = ["10.88.0.1", "127.0.0.11", "fe80::1"].map(|a| a.parse().unwrap()).into();
    assert_eq!(resolvers(text), want);
    assert_eq!(resolvers(""), Vec::<IpAddr>::new());
}
