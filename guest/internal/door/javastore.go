package door

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"syscall"
	"unicode/utf16"
)

// javaStores are where Java machines of distributions keep whom they trust. Java reads no variable for it.
var javaStores = []string{
	"etc/ssl/certs/java/cacerts",                     // Debian
	"etc/pki/ca-trust/extracted/java/cacerts",        // Red Hat
	"etc/ssl/java/cacerts",                           // Alpine
	"var/lib/ca-certificates/java-cacerts",           // SUSE
	"etc/ca-certificates/extracted/java-cacerts.jks", // Arch
}

// javaPassword is what every Java knows; it keeps nothing secret.
const javaPassword = "changeit"

const (
	javaMagic    = 0xfeedfeed
	javaVersion  = 2
	trustedEntry = 2
	javaHead     = 12
)

// forJava puts the authority into the stores that there are. One that Java cannot have written is made anew of what the
// bundle has.
func (t Trust) forJava(bundle, pemText []byte) {
	block, _ := pem.Decode(pemText)
	if block == nil {
		return
	}
	for _, name := range javaStores {
		place := t.at(name)
		found, err := readStore(place)
		if err != nil {
			continue
		}
		store := withCertificate(found, block.Bytes)
		if store == nil {
			store = javaStore(bundle)
		}
		_ = replaceFile(place, store, bundleFiles)
	}
}

// readStore follows links: the image `host` shows the machine's by one.
func readStore(place string) ([]byte, error) {
	file, err := os.OpenFile(place, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errNoBundle
	}
	return io.ReadAll(io.LimitReader(file, maxBundle))
}

// javaStore is a key store in the format JKS, which every Java reads: a number of certificates and a digest. To read and
// check those of a bundle takes milliseconds.
func javaStore(bundle []byte) []byte {
	var entries bytes.Buffer
	count := uint32(0)
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		// one that cannot be read would cost Java all of them
		if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
			continue
		}
		count++
		writeEntry(&entries, fmt.Sprintf("authority-%d", count), block.Bytes)
	}
	return sealed(entries.Bytes(), count)
}

func writeEntry(to *bytes.Buffer, alias string, certificate []byte) {
	writeBig(to, uint32(trustedEntry))
	writeText(to, alias)
	writeBig(to, uint64(0)) // when it was made
	writeText(to, "X.509")
	writeBig(to, uint32(len(certificate)))
	to.Write(certificate)
}

func sealed(entries []byte, count uint32) []byte {
	var store bytes.Buffer
	writeBig(&store, []uint32{javaMagic, javaVersion, count})
	store.Write(entries)
	store.Write(javaDigest(store.Bytes()))
	return store.Bytes()
}

func javaDigest(data []byte) []byte {
	digest := sha1.New()
	_ = binary.Write(digest, binary.BigEndian, utf16.Encode([]rune(javaPassword)))
	digest.Write([]byte("Mighty Aphrodite"))
	digest.Write(data)
	return digest.Sum(nil)
}

func writeBig(to *bytes.Buffer, value any) { _ = binary.Write(to, binary.BigEndian, value) }

func writeText(to *bytes.Buffer, text string) {
	writeBig(to, uint16(len(text)))
	to.WriteString(text)
}
