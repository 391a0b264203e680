package proxy

import "time"

// TLSMode says what the door does with a client's TLS.
type TLSMode string

// Modes of TLS.
const (
	Terminate   TLSMode = "terminate"   // the door speaks TLS with the client; the service carries what is inside
	Passthrough TLSMode = "passthrough" // the door reads which host the client names, and carries what it speaks as it is
)

// NoSNI says what becomes of a TLS client that names no host.
type NoSNI string

// What becomes of it; "": accept, if the service has no hosts of its own.
const (
	NoSNIAccept NoSNI = "accept" // it is the service's
	NoSNIClose  NoSNI = "close"  // it is not, and closed if it is no other's on the listener
)

// TLSSpec says how a service speaks TLS with its clients. To terminate, at least one of Certs, ACME.Hosts and
// ACME.OnDemand is there.
type TLSSpec struct {
	Mode TLSMode
	// SNI are the hosts, of tcp services, whose clients are this service's: names in lower case, or *.name for every
	// name below. Empty: all that are no other's on the listener.
	SNI []string
	// NoSNI says what becomes of a client that names no host. Of the services on one listener at most one takes it.
	NoSNI      NoSNI
	Certs      []CertSpec // from files; the first is for clients that name no host
	ACME       ACMESpec
	MinVersion uint16 // as in crypto/tls: VersionTLS12 or VersionTLS13
	ALPN       []string
	ClientCert ClientCertSpec
	Handshake  time.Duration // the longest that one may take, or the greeting alone of a client that is passed through; default 10s

	// RedirectFrom are further listeners of an http service: requests there are led to https.
	RedirectFrom []ListenSpec
}

// CertSpec names the files of a certificate and its key, in PEM.
type CertSpec struct{ Cert, Key string }

// ACMESpec says for which hosts certificates are obtained from an authority, and renewed (RFC 8555).
type ACMESpec struct {
	Hosts      []string // obtained at once
	OnDemand   []string // names, or *.name for one label, for which one is obtained when a client asks for it
	Email      string
	Directory  string // URL; empty: Let's Encrypt
	Root       string // file with roots that the directory's own certificate may be from; empty: the system's
	Challenges []Challenge
}

// Challenge is a way to prove to an authority that a host is ours.
type Challenge string

// Challenges.
const (
	ChallengeHTTP Challenge = "http-01"     // RFC 8555 8.3: by a service of mode http that the authority reaches at port 80
	ChallengeALPN Challenge = "tls-alpn-01" // RFC 8737: by the service itself, at port 443
)

// ClientAuth says whether clients show a certificate.
type ClientAuth string

// Ways of asking clients for a certificate.
const (
	ClientCertOff      ClientAuth = "off"
	ClientCertOptional ClientAuth = "optional" // a client may have none; one that it shows must be valid
	ClientCertRequired ClientAuth = "required"
)

// ClientCertSpec says which certificates of clients are good.
type ClientCertSpec struct {
	Mode ClientAuth
	CA   string // file with the authorities, in PEM
}

// ServerTLSSpec says how the door speaks TLS with the servers of a service.
type ServerTLSSpec struct {
	CA         string // file with the authorities that servers' certificates must be from, in PEM; "": the system's
	ServerName string // what each server must prove to be, and is told (SNI); "": the host of its address
	Cert, Key  string // files of what the door shows them; "": nothing
	MinVersion uint16 // as in crypto/tls
	Insecure   bool   // servers need not prove who they are
}
