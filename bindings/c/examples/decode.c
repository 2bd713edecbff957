/* A decoder that can be judged:
 *
 *     df11 judge run --decoder         './decode unit {unit} {out}'
 *     df11 judge run --frame-decoder   './decode frame {frame} {out}'
 *     df11 judge run --archive-decoder './decode archive {archive} {out}'
 *
 * Checks every rule, writes the elements as they were, and ends with 0; with 10 if the input is
 * invalid, with 11 if it is of a kind that the library does not know.
 */
#include <df11.h>
#include <df11_files.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static df11_error error;

static void leave(int code, const char *problem) {
    fprintf(stderr, "%s\n", problem);
    exit(code);
}

/* Ends the program unless a call went well. */
static void expect(df11_status status) {
    switch (status) {
    case DF11_OK:
        return;
    case DF11_TRUNCATED:
    case DF11_CORRUPT:
    case DF11_LIMIT_EXCEEDED:
    case DF11_CHECKSUM:
        leave(10, error.message);
        break;
    case DF11_UNSUPPORTED:
        leave(11, error.message);
        break;
    default:
        leave(70, error.message);
    }
}

static uint8_t *allocate(size_t len) {
    uint8_t *memory = (uint8_t *)malloc(len ? len : 1);
    if (memory == NULL) {
        leave(70, "no memory");
    }
    return memory;
}

static uint8_t *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        leave(66, "cannot open the input");
    }
    long end = ftell(file);
    rewind(file);
    *len = end > 0 ? (size_t)end : 0;
    uint8_t *bytes = allocate(*len);
    if (fread(bytes, 1, *len, file) != *len) {
        leave(66, "cannot read the input");
    }
    fclose(file);
    return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t len) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, len, file) != len || fclose(file) != 0) {
        leave(73, "cannot write the output");
    }
}

/* A safetensors file with the six parts of one unit. */
static void decode_unit(const char *from, const char *to) {
    df11_checkpoint *checkpoint = NULL;
    expect(df11_checkpoint_open(from, &checkpoint, &error));
    if (df11_checkpoint_unit_count(checkpoint) == 0) {
        leave(10, "the file holds no unit");
    }
    df11_tensors parts;
    df11_unit unit;
    df11_unit_info info;
    expect(df11_checkpoint_unit(checkpoint, 0, &parts, NULL, &error));
    expect(df11_unit_open(&unit, &parts, &error));
    expect(df11_unit_describe(&unit, &info, &error));
    uint8_t *weights = allocate(2 * info.elements);
    /* Not only decoded: gaps are checked as well, as this format's rules ask for. */
    expect(df11_unit_verify(&unit, weights, 2 * info.elements, &error));
    write_file(to, weights, 2 * info.elements);
    free(weights);
    df11_checkpoint_close(checkpoint);
}

static void decode_frame(const char *from, const char *to) {
    static df11_table table;
    size_t len;
    uint8_t *bytes = read_file(from, &len);
    df11_frame frame;
    df11_frame_info info;
    expect(df11_frame_open(&frame, bytes, len, &error));
    expect(df11_frame_describe(&frame, &info, &error));
    uint8_t *elements = allocate(info.elements_bytes);
    expect(df11_frame_build_table(&frame, &table, &error));
    expect(df11_frame_decode(&frame, &table, elements, info.elements_bytes, &error));
    write_file(to, elements, info.elements_bytes);
    free(elements);
    free(bytes);
}

static void decode_archive(const char *from, const char *to) {
    size_t len;
    uint8_t *bytes = read_file(from, &len);
    df11_dietgpu_info info;
    expect(df11_dietgpu_describe(bytes, len, &info, &error));
    uint8_t *elements = allocate(info.elements_bytes);
    expect(df11_dietgpu_decode(bytes, len, elements, info.elements_bytes, &error));
    write_file(to, elements, info.elements_bytes);
    free(elements);
    free(bytes);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "unit") == 0) {
        decode_unit(argv[2], argv[3]);
    } else if (argc == 4 && strcmp(argv[1], "frame") == 0) {
        decode_frame(argv[2], argv[3]);
    } else if (argc == 4 && strcmp(argv[1], "archive") == 0) {
        decode_archive(argv[2], argv[3]);
    } else {
        leave(64, "usage: decode unit|frame|archive INPUT OUTPUT");
    }
    return 0;
}
