package door

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const maxCertificates = 4096

// where OpenSSL and the programs of Debian, Alpine and Arch look
const certificates = "etc/ssl/certs"

// The image `host` shows the machine's authorities read-only beside that place, which is a link to them
// (src/cloche/images/host.py).
const machineCertificates = "etc/ssl/certs.machine"

// ownCertificates lets the place lead to a directory of this sandbox, in which everything of the machine's is a link but
// the bundle, which is to be written. Without it programs that know no variable (all of GnuTLS) would not trust the door.
func (t Trust) ownCertificates() {
	place, own, machine := t.at(certificates), t.at("etc/cloche/certs"), t.at(machineCertificates)
	if leads, err := os.Readlink(place); err != nil || leads != "/"+machineCertificates && leads != machine {
		return
	}
	linkAll(machine, own)
	linkAll(filepath.Join(machine, "java"), filepath.Join(own, "java"))
	name := filepath.Base(bundles[0])
	bundle, _, err := readBundle(filepath.Join(machine, name))
	if err == nil && replaceFile(filepath.Join(own, name), bundle, bundleFiles) == nil {
		replaceLink(place, own)
	}
}

// linkAll leaves directories out.
func linkAll(from, to string) {
	directory, err := os.Open(from)
	if err != nil {
		return
	}
	defer directory.Close()
	found, err := directory.ReadDir(maxCertificates)
	if err != nil || os.MkdirAll(to, 0o755) != nil {
		return
	}
	for _, entry := range found {
		if !entry.IsDir() {
			_ = os.Symlink(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name()))
		}
	}
}

// firstBundle is for an image without any authority: its programs can trust the door's at least.
func (t Trust) firstBundle(bundle []byte) {
	place := t.at(bundles[0])
	if _, err := os.Lstat(place); os.IsNotExist(err) && os.MkdirAll(filepath.Dir(place), 0o755) == nil {
		_ = replaceFile(place, bundle, bundleFiles)
	}
}

// forOpenSSL puts the authority where OpenSSL looks for one by its subject, and where Debian's tool takes what it makes
// the bundle of when packages change.
func (t Trust) forOpenSSL(pemText []byte) {
	if local := t.at("usr/local/share/ca-certificates"); isDirectory(local) {
		_ = replaceFile(filepath.Join(local, "cloche.crt"), pemText, bundleFiles)
	}
	block, _ := pem.Decode(pemText)
	if block == nil || !isDirectory(t.at(certificates)) {
		return
	}
	if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
		if hash, err := subjectHash(certificate.RawSubject); err == nil {
			// the number counts those that share a hash; what is there already leads to the same file
			_ = os.Symlink(t.authority(), filepath.Join(t.at(certificates), hash+".0"))
		}
	}
}

func isDirectory(place string) bool {
	info, err := os.Stat(place)
	return err == nil && info.IsDir()
}

func replaceLink(place, target string) {
	next := place + ".cloche"
	_ = os.Remove(next)
	if os.Symlink(target, next) == nil && os.Rename(next, place) != nil {
		_ = os.Remove(next)
	}
}

type attribute struct {
	Kind  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// subjectHash is OpenSSL's X509_NAME_hash: of the name with all strings as UTF-8, in lower case and with single spaces.
func subjectHash(subject []byte) (string, error) {
	var name []asn1.RawValue
	if _, err := asn1.Unmarshal(subject, &name); err != nil {
		return "", err
	}
	var canonical bytes.Buffer
	for _, set := range name {
		var attributes []attribute
		if _, err := asn1.UnmarshalWithParams(set.FullBytes, &attributes, "set"); err != nil {
			return "", err
		}
		for i, each := range attributes {
			text := strings.Join(strings.Fields(strings.ToLower(string(each.Value.Bytes))), " ")
			attributes[i].Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(text)}
		}
		data, err := asn1.MarshalWithParams(attributes, "set")
		if err != nil {
			return "", err
		}
		canonical.Write(data)
	}
	sum := sha1.Sum(canonical.Bytes())
	return fmt.Sprintf("%02x%02x%02x%02x", sum[3], sum[2], sum[1], sum[0]), nil
}
