package door

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
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

// forJava writes the stores that there are anew, with what the bundle has.
func (t Trust) forJava(bundle []byte) {
	var store []byte
	for _, name := range javaStores {
		place := t.at(name)
		if info, err := os.Stat(place); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if store == nil {
			store = javaStore(bundle)
		}
		_ = replaceFile(place, store, bundleFiles)
	}
}

// javaStore is a key store in the format JKS, which every Java reads: a number of certificates and a digest.
func javaStore(bundle []byte) []byte {
	var entries bytes.Buffer
	count := uint32(0)
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		// one that cannot be read would cost Java all of them
		if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
			continue
		}
		count++
		writeBig(&entries, uint32(2)) // an authority
		writeText(&entries, fmt.Sprintf("authority-%d", count))
		writeBig(&entries, uint64(0)) // when it was made
		writeText(&entries, "X.509")
		writeBig(&entries, uint32(len(block.Bytes)))
		entries.Write(block.Bytes)
	}
	var store bytes.Buffer
	writeBig(&store, []uint32{0xfeedfeed, 2, count})
	store.Write(entries.Bytes())
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
