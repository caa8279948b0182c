package door

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func certificate(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, made, made, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// asOnHost is a root whose authorities are shown read-only beside the place where programs look.
func asOnHost(t *testing.T) Trust {
	t.Helper()
	trust := Trust{Root: t.TempDir()}
	machine := trust.at(machineCertificates)
	write(t, filepath.Join(machine, "ca-certificates.crt"), string(certificate(t, "of the machine")))
	write(t, filepath.Join(machine, "one.pem"), "one")
	if err := os.Symlink(machine, trust.at(certificates)); err != nil {
		t.Fatal(err)
	}
	return trust
}

func TestThePlaceWhereProgramsLookBecomesOnesOwn(t *testing.T) {
	trust, own := asOnHost(t), certificate(t, "Cloche  Authority")
	machine := read(t, trust.at(machineCertificates+"/ca-certificates.crt"))
	for range 2 {
		if complete, err := trust.install(own); !complete || err != nil {
			t.Fatal(complete, err)
		}
	}
	if got := read(t, trust.at(bundles[0])); got != machine+ownBegin+string(own)+ownEnd {
		t.Error(got)
	}
	if read(t, trust.at(certificates+"/one.pem")) != "one" {
		t.Error("what else is there")
	}
	if read(t, trust.at(machineCertificates+"/ca-certificates.crt")) != machine {
		t.Error("the machine's own")
	}
	// openssl x509 -subject_hash of "CN = cloche authority"
	if read(t, trust.at(certificates+"/23c59bf0.0")) != string(own) {
		t.Error("where OpenSSL looks")
	}
}

func TestAnImageWithoutAuthoritiesGetsABundle(t *testing.T) {
	trust, own := Trust{Root: t.TempDir()}, certificate(t, "cloche")
	if complete, err := trust.install(own); complete || err != nil {
		t.Fatal(complete, err)
	}
	if got := read(t, trust.at(bundles[0])); got != ownBegin+string(own)+ownEnd {
		t.Error(got)
	}
}

func TestDebiansToolTakesTheAuthorityAlong(t *testing.T) {
	trust, own := Trust{Root: t.TempDir()}, certificate(t, "cloche")
	if err := os.MkdirAll(trust.at("usr/local/share/ca-certificates"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := trust.install(own); err != nil {
		t.Fatal(err)
	}
	if read(t, trust.at("usr/local/share/ca-certificates/cloche.crt")) != string(own) {
		t.Error("it is not there")
	}
}

func TestJavasStoreIsWrittenAnew(t *testing.T) {
	trust, own := asOnHost(t), certificate(t, "cloche")
	write(t, trust.at(machineCertificates+"/java/cacerts"), "of the machine")
	write(t, trust.at(javaStores[1]), "another")
	if _, err := trust.install(own); err != nil {
		t.Fatal(err)
	}
	for _, name := range javaStores[:2] {
		store := []byte(read(t, trust.at(name)))
		block, _ := pem.Decode(own)
		if !bytes.HasPrefix(store, []byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 2}) ||
			!bytes.Contains(store, block.Bytes) || !bytes.HasSuffix(store, javaDigest(store[:len(store)-20])) {
			t.Errorf("%q", store)
		}
	}
}

func TestJavasStoreKeepsWhomItTrusts(t *testing.T) {
	trust, first, second := asOnHost(t), certificate(t, "first"), certificate(t, "second")
	theirs := javaStore(certificate(t, "theirs"))
	write(t, trust.at(machineCertificates+"/java/cacerts"), string(theirs))
	for _, own := range [][]byte{first, second, second} {
		if _, err := trust.install(own); err != nil {
			t.Fatal(err)
		}
	}
	block, _ := pem.Decode(second)
	store := []byte(read(t, trust.at(javaStores[0])))
	if !bytes.Equal(store, withCertificate(theirs, block.Bytes)) || !bytes.Equal(store[:12], sealed(nil, 2)[:12]) {
		t.Errorf("%q", store)
	}
	if read(t, trust.at(machineCertificates+"/java/cacerts")) != string(theirs) {
		t.Error("the machine's is another one")
	}
}

func TestAStoreThatIsNoneOfJavasIsNotAddedTo(t *testing.T) {
	block, _ := pem.Decode(certificate(t, "theirs"))
	whole := javaStore(certificate(t, "theirs"))
	for length := range whole {
		if withCertificate(whole[:length], block.Bytes) != nil {
			t.Errorf("%d bytes of it", length)
		}
	}
	entries := whole[javaHead : len(whole)-20]
	for length := range entries {
		if withCertificate(sealed(entries[:length], 1), block.Bytes) != nil {
			t.Errorf("%d bytes of its entry", length)
		}
	}
	for name, store := range map[string][]byte{
		"more than it says": sealed(append(bytes.Clone(entries), 0), 1), "less than it says": sealed(entries, 2),
		"a key": sealed(append([]byte{0, 0, 0, 1}, entries[4:]...), 1), "countless": sealed(entries, 1<<32-1),
	} {
		if withCertificate(store, block.Bytes) != nil {
			t.Error(name)
		}
	}
}
