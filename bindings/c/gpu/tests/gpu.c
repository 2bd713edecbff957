// libdf11gpu from C, as an engine uses it: its own context, stream, memory and graph. Runs on
// emulated devices. gpu FOLDER   with the parts of a unit, a frame, and what both decode to, as
// tests/c.rs writes them
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "df11_gpu.h"

// From cuda.h, which is not needed to build this.
typedef int CUresult;
#ifdef __cplusplus
extern "C" {
#endif
CUresult cuCtxSetCurrent(void *context);
CUresult cuCtxGetCurrent(void **context);
CUresult cuMemAlloc_v2(uint64_t *address, size_t bytes);
CUresult cuMemFree_v2(uint64_t address);
CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream);
CUresult cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream);
CUresult cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream);
CUresult cuStreamCreate(void **stream, unsigned flags);
CUresult cuStreamSynchronize(void *stream);
CUresult cuStreamDestroy_v2(void *stream);
CUresult cuStreamBeginCapture_v2(void *stream, unsigned mode);
CUresult cuStreamEndCapture(void *stream, void **graph);
CUresult cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags);
CUresult cuGraphLaunch(void *executable, void *stream);
#ifdef __cplusplus
}
#endif
#define CU_STREAM_NON_BLOCKING 1u
#define CU_STREAM_CAPTURE_MODE_GLOBAL 0u

static size_t checks;

#define CHECK(condition) check(condition, #condition, __LINE__)

static void check(int condition, const char *text, int line) {
    checks++;
    if (!condition) {
        fprintf(stderr, "line %d: %s\n", line, text);
        exit(1);
    }
}

static df11_gpu_error error;

// A call of the library that must not fail.
static void expect(df11_gpu_status status, int line) {
    checks++;
    if (status != DF11_GPU_OK || error.status != DF11_GPU_OK) {
        fprintf(stderr, "line %d: %d, %s\n", line, (int)status, error.message);
        exit(1);
    }
}

#define OK(call) expect(call, __LINE__)

static uint8_t *files[16];
static size_t number_of_files;

// A whole file, which stays to the end.
static df11_gpu_bytes read_file(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    fseek(file, 0, SEEK_END);
    size_t len = (size_t)ftell(file);
    fseek(file, 0, SEEK_SET);
    uint8_t *data = (uint8_t *)malloc(len + 1);
    CHECK(data != NULL && fread(data, 1, len, file) == len);
    fclose(file);
    files[number_of_files++] = data;
    df11_gpu_bytes bytes = {data, len};
    return bytes;
}

// Bytes on the device, some bytes after an aligned address.
static uint64_t place(df11_gpu_bytes bytes, size_t skipped, void *stream) {
    uint64_t address;
    CHECK(cuMemAlloc_v2(&address, bytes.len + skipped) == 0);
    CHECK(cuMemcpyHtoDAsync_v2(address + skipped, bytes.data, bytes.len, stream) == 0);
    CHECK(cuStreamSynchronize(stream) == 0);
    return address + skipped;
}

static void is_at(uint64_t address, df11_gpu_bytes expected, void *stream) {
    uint8_t *found = (uint8_t *)malloc(expected.len);
    CHECK(found != NULL && cuMemcpyDtoHAsync_v2(found, address, expected.len, stream) == 0);
    CHECK(cuStreamSynchronize(stream) == 0);
    CHECK(memcmp(found, expected.data, expected.len) == 0);
    free(found);
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    const char *folder = arguments[1];
    df11_gpu_bytes weights = read_file(folder, "weights"), frame_bytes = read_file(folder, "frame");
    df11_gpu_parts parts = {read_file(folder, "luts"),
                            read_file(folder, "encoded_exponent"),
                            read_file(folder, "sign_mantissa"),
                            read_file(folder, "output_positions"),
                            read_file(folder, "gaps"),
                            read_file(folder, "split_positions")};

    df11_gpu *first, *gpu, *engine;
    OK(df11_gpu_open_emulated(2, &first, &error));
    OK(df11_gpu_open(1, &engine, &error));
    void *context = df11_gpu_context(engine), *current = &checks, *stream;
    CHECK(cuCtxGetCurrent(&current) == 0 && current == NULL);
    CHECK(context != NULL && context != df11_gpu_context(first));
    CHECK(df11_gpu_open(2, &gpu, &error) == DF11_GPU_NO_DEVICE && gpu == NULL);
    CHECK(strstr(error.message, "cuda:2") != NULL);
    // An engine's own context and stream.
    OK(df11_gpu_open_context(context, &gpu, &error));
    CHECK(cuCtxSetCurrent(context) == 0 && cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0);

    df11_gpu_unit *uploaded, *adopted;
    OK(df11_gpu_unit_upload(gpu, &parts, &uploaded, &error));
    df11_gpu_raw_unit raw = {place(parts.luts, 1, stream),
                             place(parts.encoded_exponent, 5, stream),
                             place(parts.sign_mantissa, 15, stream),
                             place(parts.output_positions, 3, stream),
                             place(parts.gaps, 8, stream),
                             parts.luts.len / 256,
                             parts.encoded_exponent.len,
                             parts.sign_mantissa.len};
    OK(df11_gpu_unit_adopt(gpu, &raw, &adopted, &error));
    df11_gpu_frame *frame, *adopted_frame;
    OK(df11_gpu_frame_upload(gpu, frame_bytes, &frame, &error));
    uint64_t frame_address = place(frame_bytes, 7, stream);
    OK(df11_gpu_frame_adopt(gpu, frame_bytes, frame_address, &adopted_frame, &error));

    uint64_t room = (weights.len + 15) / 16 * 16;
    df11_gpu_item items[4] = {
        {uploaded, NULL, 0}, {NULL, frame, room}, {adopted, NULL, 2 * room}, {NULL, adopted_frame, 3 * room}};
    df11_gpu_batch *batch;
    OK(df11_gpu_batch_new(gpu, items, 4, &batch, &error));
    // What it needs stays.
    df11_gpu_unit_close(uploaded);
    df11_gpu_frame_close(frame);
    df11_gpu_close(gpu);
    CHECK(df11_gpu_batch_output_bytes(batch) == 3 * room + weights.len);
    uint64_t outputs;
    CHECK(cuMemAlloc_v2(&outputs, 4 * room) == 0);
    OK(df11_gpu_batch_enqueue(batch, stream, outputs, &error));
    for (int item = 0; item < 4; item++) is_at(outputs + item * room, weights, stream);
    OK(df11_gpu_batch_check(batch, stream, &error));
    OK(df11_gpu_batch_compare_checksums(batch, stream, outputs, &error));
    CHECK(df11_gpu_batch_enqueue(batch, stream, outputs + 1, &error) == DF11_GPU_ALIGNMENT && error.item == 0);

    // Captured, and launched again and again.
    void *graph, *executable;
    CHECK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    OK(df11_gpu_batch_enqueue(batch, stream, outputs, &error));
    CHECK(df11_gpu_batch_check(batch, stream, &error) == DF11_GPU_CAPTURING);
    CHECK(cuStreamEndCapture(stream, &graph) == 0);
    CHECK(cuGraphInstantiateWithFlags(&executable, graph, 0) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(cuMemsetD8Async(outputs, 0, 4 * room, stream) == 0);
        CHECK(cuGraphLaunch(executable, stream) == 0);
        for (int item = 0; item < 4; item++) is_at(outputs + item * room, weights, stream);
    }
    OK(df11_gpu_batch_check(batch, stream, &error));

    // The adopted frame, damaged on the device: its states among what is overwritten. The kernel
    // does not read the header.
    CHECK(cuMemsetD8Async(frame_address, 0xff, frame_bytes.len / 4, stream) == 0);
    OK(df11_gpu_batch_enqueue(batch, stream, outputs, &error));
    df11_gpu_fault faults[4];
    OK(df11_gpu_batch_statuses(batch, stream, faults, 4, &error));
    CHECK(!faults[0].is_wrong && !faults[1].is_wrong && !faults[2].is_wrong && faults[3].is_wrong);
    CHECK(strncmp(faults[3].clause, "R-5.", 4) == 0);
    OK(df11_gpu_batch_enqueue(batch, stream, outputs, &error));
    CHECK(df11_gpu_batch_check(batch, stream, &error) == DF11_GPU_INVALID_DATA);
    CHECK(error.item == 3 && error.block == faults[3].block && strstr(error.message, faults[3].clause) != NULL);
    // The exponent of a weight of the other frame, changed after it was decoded.
    OK(df11_gpu_batch_compare_checksums(batch, stream, outputs, &error));
    CHECK(cuMemsetD8Async(outputs + room + 1, 0, 1, stream) == 0);
    CHECK(df11_gpu_batch_compare_checksums(batch, stream, outputs, &error) == DF11_GPU_INVALID_DATA);
    CHECK(error.item == 1 && error.block == 0 && strstr(error.message, "F-5.4") != NULL);

    // Wrong calls.
    df11_gpu_unit *none;
    parts.gaps.len--;
    CHECK(df11_gpu_unit_upload(engine, &parts, &none, &error) == DF11_GPU_INVALID_DATA && none == NULL);
    parts.gaps.data = NULL;
    CHECK(df11_gpu_unit_upload(engine, &parts, &none, &error) == DF11_GPU_INVALID_INPUT);
    CHECK(df11_gpu_unit_upload(NULL, &parts, &none, &error) == DF11_GPU_INVALID_INPUT);
    CHECK(df11_gpu_batch_enqueue(NULL, stream, outputs, NULL) == DF11_GPU_INVALID_INPUT);
    CHECK(df11_gpu_batch_statuses(batch, stream, faults, 3, &error) == DF11_GPU_INVALID_INPUT);
    items[0].unit = NULL;
    df11_gpu_batch *no_batch;
    CHECK(df11_gpu_batch_new(engine, items, 1, &no_batch, &error) == DF11_GPU_INVALID_INPUT && no_batch == NULL);
    items[0].unit = adopted;
    CHECK(df11_gpu_batch_new(first, items, 1, &no_batch, &error) == DF11_GPU_OTHER_DEVICE);

    // The context that was current has stayed so.
    CHECK(cuCtxGetCurrent(&current) == 0 && current == context);
    df11_gpu_batch_close(batch);
    df11_gpu_unit_close(adopted);
    df11_gpu_frame_close(adopted_frame);
    df11_gpu_unit_close(NULL);
    CHECK(cuStreamDestroy_v2(stream) == 0 && cuMemFree_v2(outputs) == 0);
    df11_gpu_close(engine);
    df11_gpu_close(first);
    while (number_of_files > 0) free(files[--number_of_files]);
    printf("%zu checks\n", checks);
    return 0;
}
