//! Layers in the bodies of If, Loop and Scan, recurrent layers among them.
