/* A libnvidia-ml.so.1 without a GPU: the calls that the harness makes, with NVIDIA's signatures and error codes (nvml.h), and
 * values from the file that FAKE_NVML names. One line a value: "gpu0.power 351000". What is not in the file is NOT_SUPPORTED.
 * Compiled with -DWITHOUT_GPM it is a library from before Hopper, in which those functions are not found. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Return;
enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };

typedef struct { char name[40]; } Handle; /* "gpu0", or "gpu1.mig2" */
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned gpu, memory; } Utilization;
static Handle handles[64];
static int num_handles;

static Return text(const char *device, const char *field, char *out, size_t size) {
    char key[128], line[256];
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return DRIVER_NOT_LOADED;
    size_t length = (size_t)snprintf(key, sizeof key, "%s%s%s ", device, *device ? "." : "", field);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length)) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out, size, "%s", line + length);
        fclose(file);
        return OK;
    }
    fclose(file);
    return NOT_SUPPORTED;
}

static Return number(const char *device, const char *field, unsigned long long *out) {
    char found[64];
    Return code = text(device, field, found, sizeof found);
    if (code == OK) *out = strtoull(found, NULL, 10);
    return code;
}

static Return small(Handle *device, const char *field, unsigned *out) {
    unsigned long long found = 0;
    Return code = number(device->name, field, &found);
    *out = (unsigned)found;
    return code;
}

static Handle *handle(const char *name) {
    for (int i = 0; i < num_handles; i++)
        if (!strcmp(handles[i].name, name)) return &handles[i];
    snprintf(handles[num_handles].name, sizeof handles[0].name, "%s", name);
    return &handles[num_handles++];
}

Return nvmlInitWithFlags(unsigned flags) {
    unsigned long long count;
    (void)flags;
    return number("", "count", &count);
}
Return nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(Return code) { return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Not Supported"; }

Return nvmlDeviceGetCount_v2(unsigned *count) {
    unsigned long long found = 0;
    Return code = number("", "count", &found);
    *count = (unsigned)found;
    return code;
}
Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle **device) {
    char name[16];
    snprintf(name, sizeof name, "gpu%u", index);
    *device = handle(name);
    return OK;
}
Return nvmlDeviceGetUUID(Handle *d, char *out, unsigned size) { return text(d->name, "uuid", out, size); }
Return nvmlDeviceGetName(Handle *d, char *out, unsigned size) { return text(d->name, "name", out, size); }
Return nvmlDeviceGetUtilizationRates(Handle *d, Utilization *out) {
    out->memory = 0;
    return small(d, "utilization", &out->gpu);
}
Return nvmlDeviceGetMemoryInfo(Handle *d, Memory *out) {
    Return code = number(d->name, "memory_used_with_reserved", &out->used);
    return code == OK ? number(d->name, "memory_total", &out->total) : code;
}
Return nvmlDeviceGetMemoryInfo_v2(Handle *d, MemoryV2 *out) {
    if (out->version != (sizeof *out | 2u << 24)) return INVALID_ARGUMENT;
    Return code = number(d->name, "memory_used", &out->used);
    return code == OK ? number(d->name, "memory_total", &out->total) : code;
}
Return nvmlDeviceGetPowerUsage(Handle *d, unsigned *milliwatts) { return small(d, "power", milliwatts); }
Return nvmlDeviceGetTotalEnergyConsumption(Handle *d, unsigned long long *mj) { return number(d->name, "energy", mj); }
Return nvmlDeviceGetClockInfo(Handle *d, int type, unsigned *mhz) {
    return small(d, type == 1 ? "sm_clock" : type == 2 ? "memory_clock" : "other_clock", mhz);
}
Return nvmlDeviceGetTemperature(Handle *d, int sensor, unsigned *celsius) {
    return small(d, sensor == 0 ? "temperature" : "other_temperature", celsius);
}
Return nvmlDeviceGetMigMode(Handle *d, unsigned *current, unsigned *pending) {
    *pending = 0;
    return small(d, "mig_mode", current);
}
Return nvmlDeviceGetMaxMigDeviceCount(Handle *d, unsigned *count) { return small(d, "max_mig", count); }
Return nvmlDeviceGetMigDeviceHandleByIndex(Handle *d, unsigned index, Handle **out) {
    char name[40], uuid[96];
    snprintf(name, sizeof name, "%.20s.mig%u", d->name, index);
    if (text(name, "uuid", uuid, sizeof uuid) != OK) return NOT_FOUND;
    *out = handle(name);
    return OK;
}
Return nvmlDeviceGetGpuInstanceId(Handle *d, unsigned *id) { return small(d, "gi", id); }
Return nvmlDeviceGetComputeInstanceId(Handle *d, unsigned *id) { return small(d, "ci", id); }

#ifndef WITHOUT_GPM
typedef struct { unsigned version, isSupported; } GpmSupport;
typedef struct { unsigned long long clock, graphics, sm, tensor, dram; } Counters;
typedef struct { unsigned id; Return code; double value; char *names[3]; } Metric;
typedef struct { unsigned version, num; Counters *before, *after; Metric metrics[1]; } MetricsGet;

Return nvmlGpmQueryDeviceSupport(Handle *d, GpmSupport *out) { return small(d, "gpm", &out->isSupported); }
Return nvmlGpmSampleAlloc(Counters **out) { return (*out = calloc(1, sizeof **out)) ? OK : INVALID_ARGUMENT; }
Return nvmlGpmSampleFree(Counters *sample) {
    free(sample);
    return OK;
}
static Return count(const char *name, Counters *out) {
    number(name, "graphics", &out->graphics);
    number(name, "sm", &out->sm);
    number(name, "tensor", &out->tensor);
    number(name, "dram", &out->dram);
    return number(name, "clock", &out->clock);
}
Return nvmlGpmSampleGet(Handle *d, Counters *out) { return count(d->name, out); }
Return nvmlGpmMigSampleGet(Handle *d, unsigned gi, Counters *out) {
    char name[40];
    snprintf(name, sizeof name, "%.20s.gi%u", d->name, gi);
    return count(name, out);
}
Return nvmlGpmMetricsGet(MetricsGet *get) {
    if (get->version != 1) return INVALID_ARGUMENT;
    for (unsigned i = 0; i < get->num; i++) {
        Metric *m = &get->metrics[i];
        Counters *a = get->before, *b = get->after;
        unsigned long long busy = m->id == 1 ? b->graphics - a->graphics : m->id == 2 ? b->sm - a->sm
                                : m->id == 5 ? b->tensor - a->tensor : b->dram - a->dram;
        m->code = m->id == 10 && !b->dram ? NOT_SUPPORTED : OK; /* a chip that does not count one of them */
        m->value = 100.0 * (double)busy / (double)(b->clock - a->clock); /* no time between: not a number */
    }
    return OK;
}
#endif
