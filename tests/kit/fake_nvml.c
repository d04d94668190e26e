/* A libnvidia-ml.so.1 that says what the text file $FAKE_NVML says. Read anew at every nvmlInit.
 *
 *   init CODE | driver TEXT | cuda NUMBER | link I J P2P_STATUS DISTANCE
 *   device, and behind it for this device:
 *     name TEXT | uuid TEXT | total BYTES | free BYTES | process PID BYTES | capability MAJOR MINOR
 *     ecc COUNT | reasons BITS | mig 0/1 | mode NUMBER | busy PERCENT | error FIELD CODE
 *
 * What is not said is "not supported" (3), as with a real device.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEMORY, PROCESSES, NAME, UUID, CAPABILITY, ECC, REASONS, MIG, MODE, BUSY, HANDLE, FIELDS };
static const char *const fields[] = {"memory", "processes", "name", "uuid", "capability",
                                     "ecc", "reasons", "mig", "mode", "busy", "handle"};
typedef unsigned long long u64;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { unsigned pid; u64 used; unsigned gpu, compute; } process_t;
typedef struct {
    int error[FIELDS], capability[2];
    char name[96], uuid[96];
    u64 total, free, ecc, reasons;
    unsigned mig, mode, busy, count;
    process_t processes[16];
} device_t;

static device_t devices[16];
static struct { int one, other, p2p, distance; } links[128];
static int count, links_count, init_code, cuda;
static char driver[80];

static void set(device_t *device, const char *key, const char *rest) {
    char field[32];
    int code;
    u64 bytes;
    unsigned pid;
    if (!strcmp(key, "error") && sscanf(rest, "%31s %d", field, &code) == 2) {
        for (int i = 0; i < FIELDS; i++)
            if (!strcmp(field, fields[i])) device->error[i] = code;
        return;
    }
    if (!strcmp(key, "name")) { snprintf(device->name, 96, "%s", rest); device->error[NAME] = 0; }
    if (!strcmp(key, "uuid")) { snprintf(device->uuid, 96, "%s", rest); device->error[UUID] = 0; }
    if (!strcmp(key, "total")) { device->total = strtoull(rest, 0, 10); device->error[MEMORY] = 0; }
    if (!strcmp(key, "free")) device->free = strtoull(rest, 0, 10);
    if (!strcmp(key, "ecc")) { device->ecc = strtoull(rest, 0, 10); device->error[ECC] = 0; }
    if (!strcmp(key, "reasons")) { device->reasons = strtoull(rest, 0, 0); device->error[REASONS] = 0; }
    if (!strcmp(key, "mig")) { device->mig = atoi(rest); device->error[MIG] = 0; }
    if (!strcmp(key, "mode")) { device->mode = atoi(rest); device->error[MODE] = 0; }
    if (!strcmp(key, "busy")) { device->busy = atoi(rest); device->error[BUSY] = 0; }
    if (!strcmp(key, "capability")
        && sscanf(rest, "%d %d", &device->capability[0], &device->capability[1]) == 2)
        device->error[CAPABILITY] = 0;
    if (!strcmp(key, "process") && sscanf(rest, "%u %llu", &pid, &bytes) == 2)
        device->processes[device->count++] = (process_t){pid, bytes, ~0u, ~0u};
}

static void read_line(char *line) {
    char *rest = strchr(line, ' ');
    device_t *device = count ? &devices[count - 1] : 0;
    if (rest) *rest++ = 0; else rest = line + strlen(line);
    if (!strcmp(line, "init")) init_code = atoi(rest);
    else if (!strcmp(line, "driver")) snprintf(driver, sizeof driver, "%s", rest);
    else if (!strcmp(line, "cuda")) cuda = atoi(rest);
    else if (!strcmp(line, "link")) {
        sscanf(rest, "%d %d %d %d", &links[links_count].one, &links[links_count].other,
               &links[links_count].p2p, &links[links_count].distance);
        links_count++;
    } else if (!strcmp(line, "device")) {
        device = &devices[count++];
        for (int i = 0; i < FIELDS; i++) device->error[i] = i == PROCESSES || i == HANDLE ? 0 : 3;
    } else if (device) set(device, line, rest);
}

int nvmlInitWithFlags(unsigned flags) {
    char line[256];
    FILE *file = fopen(getenv("FAKE_NVML") ? getenv("FAKE_NVML") : "", "r");
    (void)flags;
    memset(devices, 0, sizeof devices);
    count = links_count = cuda = 0;
    init_code = 0;
    driver[0] = 0;
    if (!file) return 9;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        read_line(line);
    }
    fclose(file);
    return init_code;
}
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) {
    return code == 3 ? "Not Supported" : code == 9 ? "Driver Not Loaded" : code == 15 ? "GPU is lost"
         : code == 18 ? "Driver/library version mismatch" : "Unknown Error";
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "%s", driver);
    return driver[0] ? 0 : 3;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = cuda; return cuda ? 0 : 3; }
int nvmlDeviceGetCount_v2(unsigned *number) { *number = count; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t **device) {
    *device = &devices[index];
    return devices[index].error[HANDLE];
}
int nvmlDeviceGetMemoryInfo(device_t *d, memory_t *m) {
    m->total = d->total; m->free = d->free; m->used = d->total - d->free;
    return d->error[MEMORY];
}
int nvmlDeviceGetComputeRunningProcesses_v3(device_t *d, unsigned *number, process_t *rows) {
    if (d->error[PROCESSES]) return d->error[PROCESSES];
    if (*number < d->count) { *number = d->count; return 7; }
    *number = d->count;
    if (rows) memcpy(rows, d->processes, d->count * sizeof *rows);
    return 0;
}
int nvmlDeviceGetName(device_t *d, char *t, unsigned n) { snprintf(t, n, "%s", d->name); return d->error[NAME]; }
int nvmlDeviceGetUUID(device_t *d, char *t, unsigned n) { snprintf(t, n, "%s", d->uuid); return d->error[UUID]; }
int nvmlDeviceGetCudaComputeCapability(device_t *d, int *major, int *minor) {
    *major = d->capability[0]; *minor = d->capability[1];
    return d->error[CAPABILITY];
}
int nvmlDeviceGetTotalEccErrors(device_t *d, int type, int counter, u64 *n) {
    (void)type; (void)counter;
    *n = d->ecc;
    return d->error[ECC];
}
int nvmlDeviceGetCurrentClocksEventReasons(device_t *d, u64 *bits) { *bits = d->reasons; return d->error[REASONS]; }
int nvmlDeviceGetMigMode(device_t *d, unsigned *now, unsigned *next) { *now = *next = d->mig; return d->error[MIG]; }
int nvmlDeviceGetComputeMode(device_t *d, unsigned *mode) { *mode = d->mode; return d->error[MODE]; }
int nvmlDeviceGetUtilizationRates(device_t *d, unsigned *rates) {
    rates[0] = rates[1] = d->busy;
    return d->error[BUSY];
}

static int find(device_t *one, device_t *other) {
    for (int i = 0; i < links_count; i++)
        if (&devices[links[i].one] == one && &devices[links[i].other] == other) return i;
    return -1;
}
int nvmlDeviceGetP2PStatus(device_t *one, device_t *other, int index, int *status) {
    int found = find(one, other);
    (void)index;
    if (found >= 0) *status = links[found].p2p;
    return found >= 0 ? 0 : 3;
}
int nvmlDeviceGetTopologyCommonAncestor(device_t *one, device_t *other, int *level) {
    int found = find(one, other);
    if (found >= 0) *level = links[found].distance;
    return found >= 0 ? 0 : 3;
}
