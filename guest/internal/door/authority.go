package door

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

const (
	maxBundle   = 8 << 20
	ownBegin    = "# the authority of this sandbox's door\n"
	ownEnd      = "# end of the authority of this sandbox's door\n"
	bundleFiles = 0o644
)

// Trust is where the authority of the door goes. Root is empty but in tests.
type Trust struct{ Root string }

func (t Trust) at(name string) string { return filepath.Join("/", t.Root, name) }

// bundles are where systems keep all their authorities in one file.
var bundles = []string{
	"etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, Arch
	"etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Red Hat
	"etc/pki/tls/certs/ca-bundle.crt",                  // older ones of it
	"var/lib/ca-certificates/ca-bundle.pem",            // SUSE
	"etc/ssl/cert.pem",                                 // Alpine's libressl
}

func (t Trust) authority() string { return t.at("etc/cloche/authority.pem") }
func (t Trust) bundle() string    { return t.at("etc/cloche/ca-bundle.pem") }

// install writes the authority into its own file, into the system's bundles, OpenSSL's directory and Java's store where
// they can be written, and into a bundle beside its own, which is complete only when the system has one.
func (t Trust) install(pem []byte) (complete bool, err error) {
	if pem[len(pem)-1] != '\n' {
		pem = append(pem, '\n')
	}
	if err := os.MkdirAll(filepath.Dir(t.authority()), 0o755); err != nil {
		return false, err
	}
	if err := replaceFile(t.authority(), pem, bundleFiles); err != nil {
		return false, err
	}
	t.ownCertificates()
	var whole []byte
	for _, name := range bundles {
		place := t.at(name)
		found, mode, err := readBundle(place)
		if err != nil {
			continue
		}
		with := withAuthority(found, pem)
		if !bytes.Equal(found, with) {
			_ = replaceFile(place, with, mode) // read-only there: programs find it by their variables
		}
		if whole == nil {
			whole = with
		}
	}
	with := withAuthority(whole, pem)
	if whole == nil {
		t.firstBundle(with)
	}
	t.forOpenSSL(pem)
	t.forJava(with, pem)
	return whole != nil, replaceFile(t.bundle(), with, bundleFiles)
}

// withAuthority is the bundle with this authority in it once, and none of before.
func withAuthority(bundle, pem []byte) []byte {
	if start := bytes.Index(bundle, []byte(ownBegin)); start >= 0 {
		if end := bytes.Index(bundle[start:], []byte(ownEnd)); end >= 0 {
			bundle = append(bytes.Clone(bundle[:start]), bundle[start+end+len(ownEnd):]...)
		}
	}
	with := append(make([]byte, 0, len(bundle)+len(pem)+len(ownBegin)+len(ownEnd)+1), bundle...)
	if len(with) > 0 && with[len(with)-1] != '\n' {
		with = append(with, '\n')
	}
	return append(append(append(with, ownBegin...), pem...), ownEnd...)
}

var errNoBundle = errors.New("this is no bundle of authorities")

// readBundle follows no link at the end: what a link leads to is in the list itself, or somebody put it there.
func readBundle(place string) ([]byte, os.FileMode, error) {
	file, err := os.OpenFile(place, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxBundle || info.Size() == 0 {
		return nil, 0, errNoBundle
	}
	data, err := io.ReadAll(io.LimitReader(file, maxBundle+1))
	if err == nil && len(data) > maxBundle {
		err = errNoBundle
	}
	return data, info.Mode().Perm(), err
}

// replaceFile: whoever reads the file meanwhile has the old one or the new one.
func replaceFile(place string, data []byte, mode os.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(place), ".cloche-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err == nil {
		err = file.Chmod(mode)
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), place)
	}
	return err
}
