// Package certs gives each handshake its certificate. It knows services by name, opens none of their listeners
// and carries none of their bytes.
//
//	files:   read at the start and at each reload; looked at every two seconds, and read again when they changed
//	ACME:    obtained and renewed in the background by certmagic, kept in a folder, answered by the handshake itself
//	         (tls-alpn-01) or by Manager.Challenge (http-01), which a plane that speaks HTTP asks
//	choice:  a certificate from a file that fits the host; else one that was obtained for it; else the first from a file
//
// Promises: a handshake waits for no file and, but for a host that is allowed on demand, for no authority. A file
// that cannot be read, or whose key does not fit, leaves the certificate that was there before in use, and is told
// in the log and by Certificate.Err. At the start and at a reload it refuses the change instead. An authority that does not
// answer changes nothing: what was obtained before is used until the end of its days, and a service whose first
// certificate is still to come refuses handshakes for that host only.
//
// Not promised: staples (OCSP) for certificates from files; that two doors which share a folder obtain a certificate
// only once.
package certs
