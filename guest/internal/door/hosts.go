package door

import (
	"net/netip"
	"strings"
)

const (
	maxName  = 253
	maxLabel = 63
)

// cleanHost is a name in lower case without a last dot, or an address as it is written usually.
func cleanHost(host string) (string, bool) {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().WithZone("").String(), address.Zone() == ""
	}
	return cleanName(host)
}

// cleanName refuses what no name of the internet's has: anything but letters, digits, '-' and '_' between dots.
func cleanName(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxName {
		return "", false
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > maxLabel || strings.ContainsFunc(label, isOdd) {
			return "", false
		}
	}
	return strings.ToLower(name), true
}

func isOdd(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
