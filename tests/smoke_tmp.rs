//! tmp
use ringway::{Route, Channel, broadcast::*};
use std::time::Duration;
fn dir(t:&str)->String{ let d=std::env::temp_dir().join(format!("rw-sm-{t}-{}",std::process::id())); let _=std::fs::remove_dir_all(&d); d.to_str().unwrap().to_owned()}
#[test] fn route(){
  let d=dir("r"); let n=format!("{d}/x");
  let mut r1=Route::receiver(&n).unwrap();
  let mut s=Route::sender(&n).unwrap();
  let mut r2=Route::receiver(&n).unwrap();
  assert_eq!(s.wait_for_receivers(2,Duration::from_secs(5)).unwrap(),2);
  for i in 0..100000u32 { s.try_send(&i.to_le_bytes()).unwrap(); if i%100==99 { for r in [&mut r1,&mut r2]{ for j in i-99..=i { assert_eq!(&*r.recv().unwrap(), j.to_le_bytes()); } } } }
  println!("{:?} {:?}", s.receivers(), s.stats());
  assert!(matches!(Route::sender(&n), Err(JoinError::SenderExists{..})));
  drop(s);
  println!("{:?}", r1.next().unwrap());
  let mut s=Route::sender(&n).unwrap();
  assert_eq!(s.send(b"again").unwrap(), Sent::To{receivers:2});
  assert_eq!(&*r1.recv().unwrap(), b"again");
  assert_eq!(&*r2.recv().unwrap(), b"again");
  drop((r1,r2,s)); std::fs::remove_dir(&d).unwrap();
}
#[test] fn chan(){
  let d=dir("c"); let n=format!("{d}/x");
  let mut m:Vec<Channel>=(0..5).map(|_|Channel::join(&n).unwrap()).collect();
  for i in 0..5 { assert_eq!(m[i].send(&[i as u8]).unwrap(), Sent::To{receivers:4}); }
  for i in 0..5 { let mut got:Vec<u8>=(0..4).map(|_|m[i].recv().unwrap()[0]).collect(); got.sort(); let want:Vec<u8>=(0..5).filter(|j|*j!=i as u8).collect(); assert_eq!(got,want); assert!(m[i].try_recv().is_err()); }
  drop(m); std::fs::remove_dir(&d).unwrap();
}
#[test] fn big(){
  let d=dir("b"); let n=format!("{d}/x");
  let mut r=Route::receiver(&n).unwrap(); let mut s=Route::sender(&n).unwrap();
  let m:Vec<u8>=(0..5_000_000u32).map(|i|i as u8).collect(); let m2=m.clone();
  let t=std::thread::spawn(move||{ for _ in 0..3 { s.send(&m2).unwrap(); } s});
  for _ in 0..3 { assert_eq!(&*r.recv().unwrap(), &m[..]); }
  drop(t.join().unwrap()); drop(r); std::fs::remove_dir(&d).unwrap();
}
