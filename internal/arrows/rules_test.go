package arrows

// module is this module's path; local paths in the tables are below it.
const module = "github.com/s3fence/s3fence"

// room says which packages of this module a package may import directly.
type room struct {
	may []string
	why string
}

// rooms has a row for every package of this module. A row for a package that
// does not exist (yet) is no fault.
var rooms = map[string]room{
	"internal/fence":  {nil, "the rule stands on one screen and rests on nothing that could change under it"},
	"internal/sigv4":  {nil, "signatures are judged without knowing what they sign: no scopes, no tokens"},
	"internal/config": {nil, "configuration is values; what they mean is decided where they are used"},
	"internal/pause":  {nil, "pause points are named in every layer and so stand below all of them"},
	"internal/object": {nil, "the vocabulary of objects is shared by all layers and so stands below them"},

	"internal/boottime": {nil, "leases of the service and of its clients are judged by one reading of the clocks, which knows neither"},

	"internal/auth":    {[]string{"internal/fence"}, "a principal may carry scope and token; how it was verified is not its matter"},
	"internal/session": {[]string{"internal/auth", "internal/fence"}, "what a session carries is sealed and opened here; who judges it, and who asked over which API, is not its matter"},
	"internal/events":  {[]string{"internal/fence"}, "one vocabulary of what happened; who looks at it is not its matter"},
	"internal/state":   {[]string{"internal/events", "internal/fence", "internal/object"}, "records and one transaction contract: drivers and rules meet here, neither is known; what happened has one vocabulary, recorded or not"},
	"internal/guarded": {[]string{"internal/fence", "internal/idempotency", "internal/object", "internal/state"}, "the seat of a way to write: it knows no way in particular"},

	"internal/idempotency": {[]string{"internal/state"}, "named requests are compared alike by every API and every way to write, none of which it knows"},

	"internal/memory":   {driver, "a driver has statements and no rules"},
	"internal/postgres": {driver, "a driver has statements and no rules"},
	"internal/sqlite":   {driver, "a driver has statements and no rules"},

	"internal/locks":  {[]string{"internal/events", "internal/fence", "internal/idempotency", "internal/object", "internal/state", "internal/pause"}, "leases are decided by the state, over whatever database and whatever API"},
	"internal/guards": {[]string{"internal/boottime", "internal/events", "internal/fence", "internal/object", "internal/state", "internal/guarded", "internal/pause"}, "guards are leased and adopted through the state and the seat of the ways to write"},
	"internal/sealed": {[]string{"internal/checksum", "internal/events", "internal/fence", "internal/idempotency", "internal/object", "internal/state", "internal/guarded", "internal/upstream", "internal/pause"}, "the sealed way to write: it never learns which database commits, nor which API asked"},

	"internal/checksum":    {[]string{"internal/object", "internal/sigv4"}, "what checksums of parts come to is arithmetic: who uploads, and where to, is not its matter"},
	"internal/upstream":    {[]string{"internal/object", "internal/sigv4", "internal/pause"}, "the store's side signs and sends; scopes and tokens are none of its business"},
	"internal/objectstore": {[]string{"internal/pause"}, "the embedded store is a store like any other: it must not be right because it knows the fence"},

	"internal/eventlog": {[]string{"internal/events", "internal/fence", "internal/state"}, "what happened is kept through the state, whatever database that is, and nobody decides from it"},

	"internal/lockapi": {[]string{"internal/eventlog", "internal/events", "internal/idempotency", "internal/locks", "internal/guards", "internal/fence", "internal/object", "internal/state", "internal/auth", "internal/session", "internal/sigv4", "internal/pause"}, "the JSON API knows leases and no S3"},
	"internal/s3api": {[]string{"internal/checksum", "internal/events", "internal/idempotency", "internal/fence", "internal/object", "internal/state", "internal/auth", "internal/guarded", "internal/guards", "internal/sealed", "internal/sigv4", "internal/upstream", "internal/pause"},
		"the S3 edge reaches databases through the ways to write only, and knows no leases"},

	"internal/edge":    {nil, "connections are bounded alike for every API and every client, before it is known what is asked"},
	"internal/lockrun": {nil, "it supervises processes: what a lock is, and where it is kept, is its caller's matter"},

	"internal/proxy": {all, "the wiring, and nothing but the wiring, knows everything"},
	"internal/demo":  {[]string{"client", "internal/proxy"}, "it shows what a user sees: the service as it is wired, and the public client; no rule may be bent for a show"},
	"cmd/proxy":      {all, "the program is wiring"},
	"migrations":     {nil, "schemas are text"},

	"client":          {[]string{"internal/boottime"}, "clients of the lock service must not pull the service into their builds; the clock is a leaf of two small files"},
	"client/awss3":    {[]string{"client"}, "nobody's build pulls in what it does not use"},
	"client/minios3":  {[]string{"client"}, "nobody's build pulls in what it does not use"},
	"internal/arrows": {nil, "it judges and takes no part"},

	"internal/mutants":       {nil, "it changes sources as text: what they mean is for the tests to say"},
	"internal/mutants/plant": {[]string{"internal/mutants"}, "it plants what it is told to and prints what became of it"},

	"internal/testserver":  {nil, "it runs programs and knows none of them"},
	"internal/pgtest":      {[]string{"internal/testserver"}, "a helper brings a server, never a schema"},
	"internal/pgtest/with": {[]string{"internal/pgtest"}, "it only lends the helper's server to a command"},
	"internal/storetest":   {[]string{"internal/testserver"}, "an independent store shares no code with this product"},
	"internal/corpus":      {nil, "it holds what strangers said and understands none of it"},
	"internal/faultproxy":  {[]string{"internal/testserver"}, "a network knows nothing of what it carries"},
	"internal/statetest":   {[]string{"internal/events", "internal/fence", "internal/object", "internal/state", "internal/memory", "internal/pause"}, "one suite for all drivers: it knows the reference they are measured against, and no database"},
	"internal/sim":         {simulated, "it runs the product as it is wired, over a state in memory and a store of its own: no database, no network"},
	"internal/history":     {[]string{"internal/fence"}, "it judges answers as clients see them, whatever gave them"},
	"e2e":                  {nil, "black box: it sees what users see"},
	"e2e/chaos":            {nil, "processes that are hurt see what users see"},
	"e2e/parity":           {nil, "suites of others see what users see"},

	"examples/go/append":              {[]string{"client"}, "an example is copied: it knows what its reader may import"},
	"examples/mistakes/leader/right":  {[]string{"client", "examples/mistakes/leader/worker"}, "the two forms differ in the mistake and share the rest"},
	"examples/mistakes/leader/worker": {[]string{"client"}, "an example is copied: it knows what its reader may import"},
	"examples/mistakes/leader/wrong":  {[]string{"client", "examples/mistakes/leader/worker"}, "the two forms differ in the mistake and share the rest"},
}

// simulated is what a simulation wires together.
var simulated = []string{"internal/auth", "internal/boottime", "internal/fence", "internal/guarded", "internal/guards", "internal/history", "internal/lockapi", "internal/locks",
	"internal/memory", "internal/object", "internal/s3api", "internal/sealed", "internal/session", "internal/sigv4", "internal/state", "internal/upstream"}

// driver is what packages that keep the state may import.
var driver = []string{"internal/fence", "internal/object", "internal/state", "internal/pause", "migrations"}

// all stands for every package that is no test helper.
var all = []string{"*"}

// helpers are imported by tests and by each other, never by a program.
var helpers = []string{"internal/testserver", "internal/pgtest", "internal/storetest", "internal/faultproxy", "internal/corpus", "internal/statetest", "internal/mutants", "internal/history", "internal/sim"}

// helperPrograms are programs for the Makefile that are made of helpers.
var helperPrograms = []string{"internal/pgtest/with", "internal/mutants/plant"}

// ban forbids imports from outside of this module.
type ban struct {
	// in are the packages that are bound.
	in []string
	// imports are the forbidden paths; one that ends in / forbids all below.
	imports []string
	// deep forbids what is reached through other packages too.
	deep bool
	why  string
}

var (
	webImports = []string{"net/http", "github.com/gorilla/mux"}
	sqlImports = []string{"database/sql", "github.com/jackc/pgx/", "modernc.org/sqlite", "github.com/pressly/goose/"}
)

var bans = []ban{
	{[]string{"internal/fence"}, append([]string{"net/", "github.com/"}, sqlImports...), true, "the rule needs no network, no database and no library"},
	{[]string{"internal/memory", "internal/postgres", "internal/sqlite", "internal/state", "internal/locks", "internal/guards", "internal/eventlog", "internal/session"}, webImports, false, "statuses and headers are made at the edge, in one place per API"},
	{[]string{"internal/sealed"}, []string{"github.com/gorilla/mux", "net/http/httptest"}, false, "it names headers for upstream and serves nobody"},
	{[]string{"internal/locks", "internal/guards", "internal/eventlog", "internal/sealed", "internal/guarded", "internal/state", "internal/lockapi", "internal/s3api", "internal/upstream", "internal/sigv4", "internal/auth", "internal/session", "internal/object"}, sqlImports, false, "every statement stands in the two drivers"},
	{[]string{"internal/postgres"}, []string{"modernc.org/sqlite"}, true, "one dialect, one package"},
	{[]string{"internal/sqlite"}, []string{"github.com/jackc/pgx/"}, true, "one dialect, one package"},
	{[]string{"client", "client/awss3", "client/minios3"}, sqlImports, true, "a helper for clients brings no database into their builds"},
	{[]string{"client"}, []string{"github.com/aws/aws-sdk-go-v2/service/", "github.com/aws/aws-sdk-go-v2/config", "github.com/aws/aws-sdk-go-v2/feature/", "github.com/minio/"}, true, "of the SDKs, the client takes the signer and nothing else"},
	{[]string{"client/minios3"}, []string{"github.com/aws/aws-sdk-go-v2/service/", "github.com/aws/aws-sdk-go-v2/config", "github.com/aws/aws-sdk-go-v2/feature/"}, true, "nobody's build pulls in the other SDK"},
	{[]string{"client", "client/awss3", "client/minios3", "internal/proxy"}, []string{"github.com/gomodule/"}, true, "the demo has a Redis, the service has none"},
	{[]string{"client", "client/awss3"}, []string{"github.com/minio/"}, true, "nobody's build pulls in the other SDK"},
	{[]string{"examples/go/append", "examples/mistakes/leader/right", "examples/mistakes/leader/worker", "examples/mistakes/leader/wrong"}, append([]string{"github.com/minio/", "github.com/spf13/", "github.com/stretchr/"}, sqlImports...), true, "an example shows what a reader's build pulls in: the client and the SDK it uses"},
	{[]string{"cmd/proxy", "internal/proxy"}, []string{"testing", "github.com/stretchr/", "go.uber.org/goleak", "pgregory.net/rapid", "github.com/anishathalye/porcupine"}, true, "what tests are made of is no part of the program"},
}

// strangers are the packages of other modules that a package may import
// directly, for those that others build with: whatever else they reached would
// come through these.
var strangers = map[string][]string{
	"client":            {"github.com/aws/aws-sdk-go-v2/aws", "github.com/aws/aws-sdk-go-v2/aws/signer/v4"},
	"client/awss3":      {"github.com/aws/aws-sdk-go-v2/aws", "github.com/aws/aws-sdk-go-v2/aws/signer/v4", "github.com/aws/aws-sdk-go-v2/service/s3", "github.com/aws/smithy-go/middleware", "github.com/aws/smithy-go/transport/http"},
	"client/minios3":    {"github.com/minio/minio-go/v7", "github.com/minio/minio-go/v7/pkg/credentials"},
	"internal/boottime": {"golang.org/x/sys/unix"},
}
