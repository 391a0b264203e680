package h1

// Err says why a message is refused; 0 is none. It is final: answer with Status and
// Reason, then close. Errs from Response.Parse and of a server's body always have status 502.
type Err uint8

// The reasons for refusing. Their texts are in errTexts.
const (
	ErrNone Err = iota
	ErrBareLF
	ErrControlByte
	ErrEmptyLines
	ErrRequestLine
	ErrMethod
	ErrMethodLong
	ErrConnect
	ErrTarget
	ErrTargetLong
	ErrAuthority
	ErrVersion
	ErrVersionMajor
	ErrHeadLong
	ErrTooManyFields
	ErrFold
	ErrFieldName
	ErrFieldColon
	ErrFieldValue
	ErrHostMissing
	ErrHostTwice
	ErrHost
	ErrLength
	ErrLengthTwice
	ErrLengthAndCoding
	ErrCoding
	ErrCodingUnknown
	ErrCoding10
	ErrConnection
	ErrConnectionNames
	ErrExpect
	ErrMaxForwards
	ErrTraceBody
	ErrChunkSize
	ErrChunkLong
	ErrChunkExtension
	ErrChunkEnd
	ErrTrailer
	ErrTrailerLong
	ErrStatusLine
	ErrStatusCode
	ErrSwitch
	ErrTruncated
	numErrs
)

// errServer marks an Err of a server's message: its status is 502, its reason is the same.
const errServer Err = 0x80

var errTexts = [numErrs]struct {
	status uint16
	reason string
}{
	ErrNone:            {0, ""},
	ErrBareLF:          {400, "line ends without CRLF"},
	ErrControlByte:     {400, "control byte in the start line"},
	ErrEmptyLines:      {400, "empty lines before the request"},
	ErrRequestLine:     {400, "malformed request line"},
	ErrMethod:          {400, "invalid method"},
	ErrMethodLong:      {501, "method too long"},
	ErrConnect:         {501, "CONNECT is not implemented"},
	ErrTarget:          {400, "invalid request target"},
	ErrTargetLong:      {414, "request target too long"},
	ErrAuthority:       {400, "invalid authority in the request target"},
	ErrVersion:         {400, "malformed HTTP version"},
	ErrVersionMajor:    {505, "HTTP version not supported"},
	ErrHeadLong:        {431, "head too large"},
	ErrTooManyFields:   {431, "too many fields"},
	ErrFold:            {400, "folded or indented field line"},
	ErrFieldName:       {400, "invalid field name"},
	ErrFieldColon:      {400, "field line without colon"},
	ErrFieldValue:      {400, "control byte in a field value"},
	ErrHostMissing:     {400, "Host missing"},
	ErrHostTwice:       {400, "more than one Host"},
	ErrHost:            {400, "invalid Host"},
	ErrLength:          {400, "invalid Content-Length"},
	ErrLengthTwice:     {400, "more than one Content-Length"},
	ErrLengthAndCoding: {400, "Content-Length with Transfer-Encoding"},
	ErrCoding:          {400, "invalid Transfer-Encoding"},
	ErrCodingUnknown:   {501, "transfer coding not implemented"},
	ErrCoding10:        {400, "Transfer-Encoding in HTTP/1.0"},
	ErrConnection:      {400, "invalid Connection"},
	ErrConnectionNames: {400, "Connection names a framing field"},
	ErrExpect:          {417, "unknown expectation"},
	ErrMaxForwards:     {400, "invalid Max-Forwards"},
	ErrTraceBody:       {400, "TRACE with content"},
	ErrChunkSize:       {400, "invalid chunk size"},
	ErrChunkLong:       {400, "chunk line too long"},
	ErrChunkExtension:  {400, "invalid chunk extension"},
	ErrChunkEnd:        {400, "chunk data without CRLF"},
	ErrTrailer:         {400, "invalid trailer"},
	ErrTrailerLong:     {431, "trailers too large"},
	ErrStatusLine:      {502, "malformed status line"},
	ErrStatusCode:      {502, "invalid status code"},
	ErrSwitch:          {502, "101 that was not asked for"},
	ErrTruncated:       {400, "message ends early"},
}

// Status is what to answer: 400, 414, 417, 431, 501 or 505 to a client's fault, 502 for a server's.
func (e Err) Status() int {
	if e&errServer != 0 {
		return 502
	}
	return int(errTexts[e].status)
}

// Reason is a constant text for logs and for the answer; it quotes nothing that a peer sent.
func (e Err) Reason() string { return errTexts[e&^errServer].reason }

// Error makes Err an error for those who pass it on as one. ErrNone is not to be passed on.
func (e Err) Error() string { return e.Reason() }

// FromServer tells a server's fault (502) from a client's.
func (e Err) FromServer() bool { return e&errServer != 0 }

// Is compares the reason, whichever side it came from.
func (e Err) Is(target error) bool {
	t, ok := target.(Err)
	return ok && t&^errServer == e&^errServer
}

func ofServer(e Err) Err {
	if e == ErrNone {
		return ErrNone
	}
	return e | errServer
}
