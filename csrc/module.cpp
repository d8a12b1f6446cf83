// Makes the operator library importable as cgckit._C; importing it registers the operators.
#include <Python.h>

static PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                 "_C",
                                 "Operators of cgckit, under torch.ops.cgckit.",
                                 -1,  // no per-interpreter state
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr};

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&definition); }
